"""An upgrade of the protos: what it changes, which new fields have to be classified, and the walkers it gives.

    python proto_upgrade.py

On a small schema in a temporary folder. In a project it is the same three commands, `durabletask-payloads-codegen diff`,
`generate` and `check`. Needs `durabletask-payloads[codegen]`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from durabletask_payloads_codegen.cli import main as codegen

OLD = """\
syntax = "proto3";
import "google/protobuf/wrappers.proto";

message ShipRequest {
  string order = 1;
  google.protobuf.StringValue input = 2;
}
message ShipResponse { google.protobuf.StringValue output = 1; }

service Shipping { rpc Ship(ShipRequest) returns (ShipResponse); }
"""
NEW = OLD.replace(
    "message ShipResponse { google.protobuf.StringValue output = 1; }",
    """\
message ShipResponse {
  google.protobuf.StringValue output = 1;
  google.protobuf.StringValue receipt = 2;
}""",
)
POLICY = """\
[ShipRequest]
input = "payload"

[ShipResponse]
output = "payload"
"""


# --8<-- [start:main]
def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        old, new, policy = Path("old/shipping.proto"), Path("protos/shipping.proto"), Path("protos/payload_fields.toml")
        for path, text in ((old, OLD), (new, OLD), (policy, POLICY)):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        generate = ["generate", "--package", "shipping_walkers", "--output", "src"]
        codegen(generate)

        new.write_text(NEW, encoding="utf-8")
        print("\n1. what the upgrade changes:")
        codegen(["diff", "old", "protos"])
        print("\n2. generate stops at the new field, and writes nothing:")
        print(f"exit code {codegen(generate)}")  # the lines to add, with proposals, are on stderr
        print("\n3. classified, it is a payload as any other:")
        policy.write_text(POLICY + 'receipt = "payload"\n', encoding="utf-8")
        print(f"exit code {codegen(generate)}")
        walkers = Path("src/shipping_walkers/externalize.py").read_text(encoding="utf-8")
        print(*[line for line in walkers.splitlines() if "receipt" in line], sep="\n")


# --8<-- [end:main]


if __name__ == "__main__":
    main()
