#!/bin/bash
# A streaming replica: copies the primary where there is no data yet, then follows it.
set -euo pipefail
export PGPASSFILE=${TMPDIR:-/tmp}/pgpass
(umask 077 && printf '*:*:*:replication:%s\n' "$(cat "$REPLICATION_PASSWORD_FILE")" >"$PGPASSFILE")
if [[ ! -s $PGDATA/PG_VERSION ]]; then
  primary="host=$PRIMARY_HOST port=$PRIMARY_PORT user=replication passfile=$PGPASSFILE"
  # One that is there already is from an attempt that broke off.
  psql --no-psqlrc --quiet "$primary replication=true" \
    --command "CREATE_REPLICATION_SLOT $SLOT PHYSICAL" || true
  # Under another name first: half a copy is never taken for a whole one.
  rm -rf "$PGDATA.new"
  mkdir -p "$(dirname "$PGDATA")"
  pg_basebackup --dbname="$primary" --pgdata="$PGDATA.new" --slot="$SLOT" --checkpoint=fast \
    --write-recovery-conf
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c config_file="${CONFIG:-/etc/postgresql/postgresql.conf}"
