#!/bin/sh
# Tests over a broker of the site need Mosquitto, which only Debian has: installed where we may, else they skip and say so.
set -eu
PATH="$PATH:/usr/sbin"
command -v mosquitto >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing mosquitto for the tests over a broker of the site"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null
    # The package starts a server of its own on port 1883, which is the embedded broker's.
    systemctl disable --quiet --now mosquitto 2>/dev/null || service mosquitto stop >/dev/null 2>&1 || true
    exit 0
fi
echo "no mosquitto here: the tests over it will skip. To run them: apt-get install mosquitto"
