#!/bin/sh
# Builds helm into a folder, by the Go tool chain and at a pinned version.
#
#   sh tests/programs/get_helm.sh .programs
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/helm" ] && exit
GOBIN="$folder" GOFLAGS=-trimpath go install helm.sh/helm/v3/cmd/helm@v3.22.0
