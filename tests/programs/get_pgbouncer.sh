#!/bin/sh
# Brings PgBouncer 1.24 of Debian 13 into a folder, beside the libraries that it was built with, so
# that it also runs where the system is an older Debian, whose own knows no prepared statements.
# Nothing is installed: the packages are only unpacked. Needs apt-get and dpkg-deb, and no root.
#
#   sh tests/programs/get_pgbouncer.sh .programs/pgbouncer
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/pgbouncer" ] && exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
echo 'deb http://deb.debian.org/debian trixie main' >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
export APT_CONFIG="$work/apt.conf"
apt-get -qq update
# apt checks the signature of the list, and by the list each package.
(cd "$work/debs" && apt-get -qq download pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g \
  libssl3t64 libsystemd0 libaudit1 libcap-ng0 libcap2 libzstd1 zlib1g)
mkdir "$work/root"
for package in "$work"/debs/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
rm -rf "$folder/root"
mv "$work/root" "$folder/root"
# By its own loader: the system's knows another C library. Written last, for it says that all is there.
cat >"$folder/pgbouncer.new" <<RUN
#!/bin/sh
exec "$folder"/root/usr/lib64/ld-linux-x86-64.so.2 \\
  --library-path "$folder/root/usr/lib/x86_64-linux-gnu" "$folder/root/usr/sbin/pgbouncer" "\$@"
RUN
chmod +x "$folder/pgbouncer.new"
mv "$folder/pgbouncer.new" "$folder/pgbouncer"
