#!/bin/sh
# Compiles protos/standings into protos/gen. Run from the project's root, with the compiler's own
# environment (requirements/gen.txt) first on PATH.
set -eu
out=${1:-protos/gen}
mkdir -p "$out"
python -m grpc_tools.protoc -Iprotos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  protos/standings/v1/*.proto
# Files without a service get an empty stub module; nobody imports it.
for file in "$out"/standings/v1/*_pb2_grpc.py; do
  grep -q 'Stub' "$file" || rm -f "$file" "${file}i"
done
touch "$out/standings/py.typed"
