#!/bin/sh
# The screen tests need a browser, which only Debian has: installed where we may, else the tests skip and say so.
set -eu
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing chromium for the screen tests"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        chromium fonts-noto-cjk >/dev/null
    exit 0
fi
echo "no chromium here: the screen tests will skip. To run them: apt-get install chromium fonts-noto-cjk"
