#!/usr/bin/env bash
# Pairs a HAProxy with `twist peers`: a request at HAProxy shows up here, and a
# visitor that is blocked here is blocked there.
set -eu
cd "$(dirname "$0")"

if ! command -v haproxy >/dev/null; then
    echo "The demo needs HAProxy (Debian: apt-get install haproxy)." >&2
    exit 1
fi

ask() { # ask <socket> <command>
    python3 - "$@" <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(sys.argv[2].encode() + b"\n")
    while data := connection.recv(65536):
        sys.stdout.write(data.decode())
PYTHON
}

get() { # the status of a request at HAProxy
    python3 -c '
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8080/").status)
except urllib.error.HTTPError as refusal:
    print(refusal.code)'
}

until_true() { # wait for a condition, for 60 s at most
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "gave up waiting for: $*" >&2
    cat "$log" >&2
    ask /tmp/peerproto.sock "show peers" >&2
    ask /tmp/haproxy1.sock "show peers" >&2
    exit 1
}

log=/tmp/peerproto-demo.log
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true' EXIT

haproxy -f haproxy.cfg &
twist --log-format=text peers --config peers.ini >"$log" 2>&1 &

in_step() { ask /tmp/peerproto.sock "show peers" | grep -q "in_step=yes"; }
until_true in_step
echo "== HAProxy and peerproto are in step"

echo "== a request at HAProxy: $(get)"
arrived() { ask /tmp/peerproto.sock "show table rates" | grep -q 127.0.0.1; }
until_true arrived
ask /tmp/peerproto.sock "show table rates"

echo "== set table rates key 127.0.0.1 data.gpc0 1, at peerproto"
ask /tmp/peerproto.sock "set table rates key 127.0.0.1 data.gpc0 1"
blocked() { ask /tmp/haproxy1.sock "show table rates" | grep -q gpc0=1; }
until_true blocked
echo "== the next request at HAProxy: $(get)"
