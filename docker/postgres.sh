#!/bin/sh
# The store's contract tests need PostgreSQL's programs: installed where we may, else those tests skip and say so.
# Only the programs: the tests start a server of their own, and Debian's stays off where it was not wanted before.
set -eu
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0
command -v initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing postgresql for the store tests"
    mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/vitalwire-tests.conf
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        postgresql >/dev/null
    exit 0
fi
echo "no postgresql here: the store's tests on it will skip. To run them: apt-get install postgresql"
