"""How a node's programs are run."""

from pathlib import Path

from bridge.testing.rabbitmq.home import Home


def test_programs_of_another_linux_run_in_its_root_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        command = home.command(tmp_path / "usr/lib/rabbitmq/bin/rabbitmqctl", "status")
        assert command[-2:] == ["/usr/lib/rabbitmq/bin/rabbitmqctl", "status"]
        assert command[0] == "unshare"
        assert {str(tmp_path), str(home.folder)} < set(command)
    finally:
        home.close()
