#!/bin/sh
# Verbs on the guest's soft-RoCE devices, and each way in which a machine has none for us. Run in the guest, with the fabric up:
#
#   cargo xtask guest -- sh testbed/guest/verbs_tour.sh target/release/verbs_tour [CYCLES]
#
# One JSON line for each thing that has to hold; the exit status is 1 when one does not.
set -u
tour=$1 cycles=${2:-200} failed=0
library=$(readlink -f "/usr/lib/$(uname -m)-linux-gnu/libibverbs.so.1")

holds() { "$@" || { echo "does not hold: $*" >&2; failed=1; }; }
# Words of a refusal, then what it takes to be refused.
refused() { words=$1; shift; holds "$@" "$tour" refused --expect "$words"; }
# As root without the right that goes round the limit of locked memory.
limited() { sh -c 'ulimit -l 64; exec setpriv --inh-caps=-ipc_lock --bounding-set=-ipc_lock "$@"' sh "$@"; }
# With another file or directory in the place of one of the machine's.
with() { unshare --mount sh -c 'mount --bind "$1" "$2"; shift 2; exec "$@"' sh "$@"; }

holds "$tour" list
# What goes from a NIC of the fabric to itself leaves by the cable and is lost; a device beside the fabric reaches itself.
ip link add alone type veth peer name other && ip link set other mtu 4200 up
ip link set alone mtu 4200 up && ip addr add 10.78.0.5/24 dev alone
rdma link add rxe5 type rxe netdev alone
holds "$tour" datagrams --loopback rxe5
rdma link delete rxe5
ip link delete alone
holds "$tour" connections
holds "$tour" cycles --count "$cycles"
holds "$tour" events
"$GUEST_FABRIC" clear 2
holds "$tour" removal

chmod 600 /dev/infiniband/uverbs*
refused "no permission on /dev/infiniband/uverbs" setpriv --reuid=65534 --clear-groups
refused "RLIMIT_MEMLOCK is 65536" limited
holds "$tour" --device rxe9 refused --expect "no RDMA device is called rxe9; there is rxe"
mkdir -p /tmp/nothing
refused "libibverbs.so.1: file too short; install libibverbs1" with /dev/null "$library"
refused "no library drives rxe1, rxe" with /tmp/nothing /etc/libibverbs.d
refused "no node in /dev/infiniband for rxe1, rxe" with /tmp/nothing /dev/infiniband
for cable in 1 2 3 4; do "$GUEST_FABRIC" remove $cable; done
refused "this machine has no RDMA device" env
for cable in 1 2 3 4; do "$GUEST_FABRIC" add $cable; done
exit $failed
