"""`classes`: message classes and gRPC stubs of a small .proto, in a descriptor pool of their own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tests.codegen.support import PROTOS, ROOT, dedent

from durabletask_payloads_codegen import cli, schema
from durabletask_payloads_codegen.classes import render_classes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROTO = """
    syntax = "proto3";
    package acme.shop;
    message Ask { repeated string names = 1; optional int32 limit = 2; Kind kind = 3; }
    message Answer { bytes data = 1; }
    enum Kind { KIND_UNSPECIFIED = 0; KIND_LARGE = 2; }
    service Shop { rpc Get(Ask) returns (Answer); rpc Put(Answer) returns (Ask); }
"""
PURGE = PROTOS / "durabletask/largepayloads/large_payload_purge.proto"


def generate(folder: Path, text: str = PROTO, name: str = "shop.proto") -> int:
    (folder / name).write_text(dedent(text))
    options = ["--proto-path", str(folder), "--package", "acme_protos", "--output", str(folder / "out")]
    return cli.main(["classes", str(folder / name), *options])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The generated package, importable."""
    assert generate(tmp_path) == 0
    monkeypatch.setattr(sys, "path", [str(tmp_path / "out"), *sys.path])
    yield "acme_protos"
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_protos"]:
        del sys.modules[name]


def test_the_classes_are_those_of_the_file(package: str, tmp_path: Path) -> None:
    pb: Any = importlib.import_module(f"{package}.shop_pb2")  # generated for this test: it has no types here
    (file,) = schema.from_protos(tmp_path, [tmp_path / "shop.proto"]).files
    assert FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb) == file
    ask = pb.Ask(names=["a"], limit=0, kind=pb.KIND_LARGE)
    again = pb.Ask.FromString(ask.SerializeToString())
    assert again == ask
    assert again.HasField("limit")
    assert (pb.KIND_LARGE, pb.Kind.Name(2), pb.Kind.Value("KIND_UNSPECIFIED")) == (2, "KIND_LARGE", 0)


def test_a_second_copy_does_not_clash(package: str) -> None:
    first: Any = importlib.import_module(f"{package}.shop_pb2")
    del sys.modules[f"{package}.shop_pb2"]
    second: Any = importlib.import_module(f"{package}.shop_pb2")
    assert first.Ask is not second.Ask
    assert first.DESCRIPTOR.pool is not second.DESCRIPTOR.pool


def test_stub_and_servicer(package: str) -> None:
    pb: Any = importlib.import_module(f"{package}.shop_pb2")
    services: Any = importlib.import_module(f"{package}.shop_pb2_grpc")

    class Shop(services.ShopServicer):  # type: ignore[misc] # generated for this test
        def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
            return pb.Answer(data=request.names[0].encode())

    server = grpc.server(ThreadPoolExecutor(1))
    services.add_ShopServicer_to_server(Shop(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = services.ShopStub(channel)
            assert stub.Get(pb.Ask(names=["a"]), timeout=20).data == b"a"
            with pytest.raises(grpc.RpcError) as raised:
                stub.Put(pb.Answer(), timeout=20)
    finally:
        server.stop(None).wait()
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.tools
def test_types(package: str, tmp_path: Path) -> None:
    """mypy knows the classes from the stubs beside them."""
    user = tmp_path / "out" / "user.py"
    user.write_text(
        "from acme_protos import shop_pb2 as pb\nfrom acme_protos.shop_pb2_grpc import ShopStub\n"
        "import grpc\nstub = ShopStub(grpc.insecure_channel('x'))\n"
        "stub.Get(pb.Ask(names=['a']))\nstub.Get(pb.Answer())\npb.Ask().HasField('names')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "user.py"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition(":")[2].partition(":")[0] for line in done.stdout.splitlines() if ": error: " in line]
    assert lines == ["6", "7"], done.stdout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("message A { message B {} }", "shop.proto: A: has types of its own, which have no template"),
        ("message A { enum B { C = 0; } }", "shop.proto: A: has types of its own, which have no template"),
        (
            "message A {} service S { rpc Get(stream A) returns (A); }",
            "shop.proto: S.Get: streams, which has no template",
        ),
        (
            'import "google/protobuf/wrappers.proto"; message A { google.protobuf.StringValue b = 1; }',
            "shop.proto: has imports or extensions, which have no template",
        ),
    ],
)
def test_what_has_no_template(text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path, f'syntax = "proto3"; {text}') == 2
    assert capsys.readouterr().err == f"durabletask-payloads-codegen: error: {complaint}\n"
    assert not (tmp_path / "out").exists()


def test_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.proto").write_text('syntax = "proto3"; message O {}')
    assert generate(tmp_path, 'syntax = "proto3"; import "other.proto"; message A { O o = 1; }') == 2
    assert "has to be the only file, without imports of other files" in capsys.readouterr().err


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path) == 0
    command = ["classes", str(tmp_path / "shop.proto"), "--proto-path", str(tmp_path), "--package", "acme_protos"]
    command += ["--output", str(tmp_path / "out"), "--check"]
    assert cli.main(command) == 0
    (tmp_path / "shop.proto").write_text(dedent(PROTO.replace("limit = 2", "limit = 4")))
    capsys.readouterr()
    assert cli.main(command) == 1
    assert (
        "differs from the output of the generator: run durabletask-payloads-codegen classes" in capsys.readouterr().out
    )


def test_those_of_the_purge_service_are_renewed() -> None:
    files = render_classes(schema.from_protos(PROTOS, [PURGE]), "durabletask_payloads_protos", "make generate")
    for path, text in files.items():
        assert (ROOT / "generated" / path).read_text(encoding="utf-8") == text
