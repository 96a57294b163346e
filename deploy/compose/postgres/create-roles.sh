#!/bin/bash
# Runs once, on an empty data directory: the roles, neither of them a superuser, and the database.
set -euo pipefail
# Passwords by psql's own variables: not in the list of processes, and quoted by psql.
export STANDINGS_PASSWORD REPLICATION_PASSWORD
STANDINGS_PASSWORD=$(cat "${SECRETS:-/run/secrets}"/standings_password)
REPLICATION_PASSWORD=$(cat "${SECRETS:-/run/secrets}"/replication_password)
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv standings STANDINGS_PASSWORD
\getenv replication REPLICATION_PASSWORD
create role standings login password :'standings';
create role replication login replication password :'replication';
create database standings owner standings;
revoke connect on database standings from public;
SQL
