"""TLS files that a broker's URL names: read and checked at the start, and nobody is asked."""

import base64
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from bridge.rabbitmq.tls import tls_context
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq.certificates import make_certificates

PHRASE = "Qx7 # Zk9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    (folder / "phrase").write_text(f"{PHRASE}\n")
    (folder / "other-phrase").write_text("Jv3q\n")
    for form, name in (("pkcs8 -topk8", "secret.key"), ("ec -aes256", "secret-ec.key")):
        subprocess.run(
            [
                "openssl",
                *form.split(),
                "-in",
                "host.key",
                "-out",
                name,
                "-passout",
                f"pass:{PHRASE}",
            ]
            + (["-v2", "aes-256-cbc"] if form.startswith("pkcs8") else []),
            cwd=folder,
            check=True,
            capture_output=True,
        )
    both = (folder / "host.pem").read_text() + (folder / "secret.key").read_text()
    (folder / "both.pem").write_text(both)
    os.mkfifo(folder / "fifo")
    return folder


def context_of(folder: Path, query: str) -> ssl.SSLContext:
    [url] = parse_urls([f"amqps://u:secret@h/?{query.replace('=/', f'={folder}/')}"])
    context = tls_context(url)
    assert context is not None
    return context


@pytest.mark.parametrize(
    "query",
    [
        "cafile=/ca.pem",
        "cafile=/ca.pem&certfile=/host.pem&keyfile=/host.key",
        "certfile=/host.pem&keyfile=/secret.key&keypassfile=/phrase",
        "certfile=/host.pem&keyfile=/secret-ec.key&keypassfile=/phrase",
        "certfile=/host.pem&keyfile=/secret.key&keypassenv=PHRASE_OF_TEST",
        "certfile=/both.pem&keypassfile=/phrase",
        "certfile=/host.pem&keyfile=/host.key&keypassfile=/phrase",
    ],
)
def test_files_that_fit_are_taken(
    folder: Path, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHRASE_OF_TEST", PHRASE)
    context = context_of(folder, query)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context_of(folder, query) is context  # read once


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("cafile=/nowhere.pem", "cafile=FOLDER/nowhere.pem cannot be read: No such file"),
        ("cafile=/", "cafile=FOLDER/ is not a file"),
        ("cafile=/fifo", "cafile=FOLDER/fifo is not a file"),
        ("cafile=/host.key", "cafile=FOLDER/host.key holds no certificates"),
        ("capath=/nowhere", "capath=FOLDER/nowhere cannot be read"),
        ("cadata=%25", "cadata "),
        ("certfile=/nowhere.pem", "certfile=FOLDER/nowhere.pem cannot be read"),
        ("certfile=/host.pem", "certfile=FOLDER/host.pem cannot be used"),
        ("certfile=/host.pem&keyfile=/nowhere.key", "keyfile=FOLDER/nowhere.key cannot be read"),
        (
            "certfile=/host.pem&keyfile=/ca.key",
            "certfile=FOLDER/host.pem with keyfile=FOLDER/ca.key cannot be used: KEY_VALUES_MISM",
        ),
        ("keyfile=/host.key", "keyfile without certfile"),
        (
            "certfile=/host.pem&keyfile=/secret.key",
            "FOLDER/secret.key is encrypted and there is no",
        ),
        (
            "certfile=/host.pem&keyfile=/secret-ec.key",
            "the key in FOLDER/secret-ec.key is encrypted and there is no pass phrase",
        ),
        ("certfile=/both.pem", "the key in FOLDER/both.pem is encrypted and there is no pass"),
        (
            "certfile=/host.pem&keyfile=/secret.key&keypassfile=/other-phrase",
            "FOLDER/secret.key cannot be opened with its pass phrase",
        ),
        (
            "certfile=/host.pem&keyfile=/secret.key&keypassfile=/nowhere",
            "keypassfile=FOLDER/nowhere cannot be read",
        ),
        (
            "certfile=/host.pem&keyfile=/secret.key&keypassenv=NOT_SET_AT_ALL",
            "keypassenv=NOT_SET_AT_ALL is not in the environment",
        ),
        ("keypassenv=X&keypassfile=/phrase&certfile=/host.pem", "exclude each other"),
        ("no_verify_ssl=true", "no_verify_ssl is 0 or 1"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder: Path, query: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^amqps") as caught:
        context_of(folder, query)
    assert told.replace("FOLDER", str(folder)) in str(caught.value)
    for secret in ("secret@", "Qx7", "Zk9", "Jv3q"):
        assert secret not in str(caught.value)


def test_a_certificate_is_read_again_once_it_has_changed(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes((folder / "ca.pem").read_bytes())
    [url] = parse_urls([f"amqps://h/?cafile={file}"])
    before = tls_context(url)
    file.write_bytes((folder / "ca.pem").read_bytes() * 2)
    after = tls_context(url)
    assert before is not after
    file.unlink()
    with pytest.raises(ValueError, match=r"ca\.pem cannot be read"):
        tls_context(url)


def test_authorities_may_stand_in_the_url_and_checks_be_turned_off(folder: Path) -> None:
    pem = (folder / "ca.pem").read_text()
    data = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()
    [url] = parse_urls([f"amqps://h/?cadata={data.replace('+', '%2B')}&no_verify_ssl=1"])
    context = tls_context(url)
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE
    assert context.cert_store_stats()["x509_ca"] >= 1


def test_without_tls_there_is_nothing_to_read() -> None:
    [url] = parse_urls(["amqp://h/"])
    assert tls_context(url) is None
