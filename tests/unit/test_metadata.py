"""What an index of packages shows of the project."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[2]
PUBLIC = "https://git.example/acme/datatransfer-bridge"


def metadata(repository: str) -> ProjectMetadata[Any]:
    """The project's, if that is the address of its repository."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    config["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"] = repository
    return ProjectMetadata(str(ROOT), PluginManager(), config)


def links(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", text))


def test_links_of_the_readme_go_to_the_files_of_that_version() -> None:
    core = metadata(f"{PUBLIC}/").core
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = core.readme
    files = f"{PUBLIC}/blob/v{core.version}"
    assert len(links(readme)) > 20
    assert links(shown) == {f"{files}/{link}" for link in links(readme)}
    assert core.readme_content_type == "text/markdown"
    assert re.sub(r"\]\([^)]+\)", "", shown) == re.sub(r"\]\([^)]+\)", "", readme)


def test_without_an_address_no_link_of_the_readme_is_dead() -> None:
    shown = metadata("").core.readme
    assert links(shown) == set()
    assert "| docs/handlers.md | writing handlers" in shown


def test_all_that_an_index_asks_for_is_there() -> None:
    core = metadata(PUBLIC).core
    assert core.name == "datatransfer-bridge"
    assert core.description.endswith(".")
    assert core.license_expression == "MIT"
    assert core.license_files == ["LICENSE"]
    assert core.requires_python == ">=3.11"
    assert {"amqp", "ocpp", "rabbitmq"} <= set(core.keywords)
    assert core.urls == {
        "Changelog": f"{PUBLIC}/blob/v{core.version}/CHANGELOG.md",
        "Documentation": f"{PUBLIC}/blob/v{core.version}/docs/index.md",
        "Issues": f"{PUBLIC}/issues",
        "Source": PUBLIC,
    }
    assert not core.dynamic


def test_the_classifiers_are_known_and_name_the_versions_that_are_tested() -> None:
    classifiers = metadata("").core.classifiers  # unknown ones are refused here
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    [tested] = re.findall(r"python: (\[.+\])", workflow)
    named = {name.rpartition(" ")[2] for name in classifiers if re.search(r":: 3\.\d+$", name)}
    assert named == set(re.findall(r"3\.\d+", tested))
    assert {"Typing :: Typed", "Framework :: AsyncIO"} <= set(classifiers)


def test_links_elsewhere_and_within_the_page_stay() -> None:
    import hatch_build

    text = "[a](#b) [c](https://d.example/e) [f](g.md#h)"
    assert hatch_build.description(text, "") == "[a](#b) [c](https://d.example/e) f"
    shown = hatch_build.description(text, "https://x.example")
    assert shown == "[a](#b) [c](https://d.example/e) [f](https://x.example/g.md#h)"


def test_the_address_of_the_project_is_one_or_none() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = config["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    assert re.fullmatch(r"(https://\S+[^/\s])?", repository)


@pytest.mark.parametrize("name", ["CHANGELOG.md", "docs/index.md"])
def test_what_the_addresses_name_is_there(name: str) -> None:
    assert (ROOT / name).exists()
