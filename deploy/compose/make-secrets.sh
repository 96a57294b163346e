#!/bin/sh
# Makes a password for everybody in compose.yaml, each in the form in which it is read there. Keeps
# what is there already: to change one, remove the folder `secrets` and the volumes with it.
#
#   sh deploy/compose/make-secrets.sh [FOLDER]
set -eu
here=$(dirname "$0")
folder=${1:-$here/secrets}
[ -e "$folder/grafana_password" ] && exit
umask 077
mkdir -p "$folder"
password() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }
digest() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }
put() { printf '%s\n' "$2" >"$folder/$1"; }

standings=$(password)
put postgres_password "$(password)"
put standings_password "$standings"
put replication_password "$(password)"
put pgbouncer_users "\"standings\" \"$standings\""
login="user=standings password=$standings dbname=standings"
put standings_postgres_dsn "host=pgbouncer port=6432 $login"
put standings_postgres_direct_dsn "host=postgres port=5432 $login"
put standings_postgres_replica_dsns "host=postgres-replica port=5432 $login"

index=$(password) loader=$(password) replica=$(password) operator=$(password)
put redis_password "$index"
put redis_admin_password "$loader"
put redis_operator_password "$operator"
printf 'masteruser replica\nmasterauth %s\n' "$replica" >"$folder/redis_replication.conf"
# Only what the passwords hash to.
sed -e "s/#STANDINGS/#$(digest "$index")/" -e "s/#LOADER/#$(digest "$loader")/" \
  -e "s/#REPLICA/#$(digest "$replica")/" -e "s/#OPERATOR/#$(digest "$operator")/" \
  "$here/redis/users.acl" >"$folder/redis_users.acl"
# Last: it says that all are there.
put grafana_password "$(password)"
# The users inside the containers are not the one who runs this; outside, the folder keeps others out.
chmod 444 "$folder"/*
