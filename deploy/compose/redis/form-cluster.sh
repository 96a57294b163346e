#!/bin/bash
# Makes one cluster of nodes that know nobody yet: the first half are primaries with even shares of the
# slots, which is what the 16 shards are spread by, the others their replicas. Harmless to repeat.
#
#   form-cluster.sh HOST:PORT ...
set -euo pipefail
REDISCLI_AUTH=$(cat "$OPERATOR_PASSWORD_FILE")
export REDISCLI_AUTH
ask() { redis-cli --no-auth-warning --user operator "$@"; }

addresses=()
for node in "$@"; do
  # Nodes are introduced to each other by address, not by name.
  read -r address _ < <(getent ahostsv4 "${node%:*}")
  addresses+=("$address:${node##*:}")
done
first=${addresses[0]}
if ask -h "${first%:*}" -p "${first##*:}" cluster info | grep -q '^cluster_slots_assigned:16384'; then
  echo 'the cluster is there'
  exit
fi
ask --cluster create "${addresses[@]}" --cluster-replicas 1 --cluster-yes
