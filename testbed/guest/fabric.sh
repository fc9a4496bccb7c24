#!/bin/sh
# The fabric in the guest: cables from NICs into one switch. Cable N is the pair nicN - swN; swN is a port of the bridge `switch`,
# nicN carries the soft-RoCE device rxeN and the addresses 10.77.0.N and fd77::N.
#
#   fabric.sh up [CABLES]                 make it, four cables where no number is given
#   fabric.sh down                        take it away
#   fabric.sh fault N nic|switch down     the link of that end goes down
#   fabric.sh fault N nic|switch NETEM…   what leaves that end is disturbed: `delay 2ms`, `loss 1%`, `rate 10mbit`, or several
#   fabric.sh clear [N]                   the cable, or each, is whole again
#   fabric.sh remove N                    the RDMA device of the NIC goes; waits until nobody has it open
#   fabric.sh add N                       and comes again
#   fabric.sh renumber N SUBNET           the NIC's addresses become 10.77.SUBNET.N and fd77::SUBNET:N, and so its GIDs
#   fabric.sh show                        devices, GIDs, faults
#
# All NICs live in one kernel, which would take the short way through loopback: an address of its own is local to it. So the table
# `local` is asked only for packets that came in by a NIC, and last of all; before it, whoever has a NIC's address as its source, or is
# bound to a NIC, gets the NIC's own table, in which the others are behind the switch. What talks to 10.77.0.N must therefore be bound
# to an address of the fabric; what is not (control connections) uses 127.0.0.1.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
FIRST_TABLE=100

set_kernel() { # value, names below /proc/sys/net
    value=$1
    shift
    for name in "$@"; do echo "$value" > "/proc/sys/net/$name"; done
}

ports() {
    for path in /sys/class/net/nic*; do
        if [ -e "$path" ]; then echo "${path##*/nic}"; fi
    done
}

must_be_port() {
    [ -e "/sys/class/net/nic$1" ] || { echo "fabric.sh: no cable $1; there are: $(ports | tr '\n' ' ')" >&2; exit 2; }
}

# Addresses, routes and rules of NIC $1 in subnet $2. What is there already stays: a link that was down has lost its routes only.
number() {
    table=$((FIRST_TABLE + $1)) four=10.77.$2.$1 six=fd77::$2:$1
    ip addr replace "$four/32" dev "nic$1"
    ip addr replace "$six/128" dev "nic$1" nodad
    ip route replace 10.77.0.0/16 dev "nic$1" src "$four" table "$table"
    ip -6 route replace fd77::/64 dev "nic$1" src "$six" table "$table"
    ip -6 route replace fe80::/64 dev "nic$1" table "$table"
    for rule in "pref 10 iif nic$1 lookup local" "pref 20 from $four lookup $table" "pref 21 oif nic$1 lookup $table"; do
        # shellcheck disable=SC2086 # words of the rule
        ip rule add $rule 2> /dev/null || true
    done
    for rule in "pref 10 iif nic$1 lookup local" "pref 20 from $six lookup $table" "pref 21 oif nic$1 lookup $table"; do
        # shellcheck disable=SC2086
        ip -6 rule add $rule 2> /dev/null || true
    done
}

unnumber() { # NIC, subnet
    table=$((FIRST_TABLE + $1))
    ip rule del pref 20 from "10.77.$2.$1" lookup "$table"
    ip -6 rule del pref 20 from "fd77::$2:$1" lookup "$table"
    ip addr del "10.77.$2.$1/32" dev "nic$1"
    ip addr del "fd77::$2:$1/128" dev "nic$1" || true
}

subnet() { # of NIC
    ip -4 -o addr show dev "nic$1" | sed -n 's/.* 10\.77\.\([0-9]*\)\..*/\1/p'
}

up() {
    ip link set lo up
    for family in all default; do
        set_kernel 1 "ipv4/conf/$family/accept_local" "ipv4/conf/$family/arp_ignore"
        set_kernel 2 "ipv4/conf/$family/arp_announce"
        set_kernel 0 "ipv4/conf/$family/rp_filter" "ipv6/conf/$family/accept_dad" "ipv6/conf/$family/accept_ra" \
            "ipv6/conf/$family/dad_transmits"
        set_kernel 1 "ipv6/conf/$family/keep_addr_on_down"
    done
    ip link add switch type bridge mcast_snooping 0
    set_kernel 1 ipv6/conf/switch/disable_ipv6
    ip link set switch up
    for family in -4 -6; do
        ip $family rule add pref 100 lookup local
        ip $family rule del pref 0
    done
    for port in $(seq "$1"); do
        ip link add "nic$port" address "02:77:00:00:00:0$port" type veth peer name "sw$port" address "02:77:00:00:01:0$port"
        set_kernel 1 "ipv6/conf/sw$port/disable_ipv6"
        # Room for RoCE's 4,096 octets and the headers around them.
        ip link set "sw$port" master switch mtu 4200 up
        ip link set "nic$port" mtu 4200 up
        number "$port" 0
    done
    for port in $(seq "$1"); do add "$port"; done
}

down() {
    for port in $(ports); do
        remove "$port"
        for family in -4 -6; do
            while ip $family rule del lookup $((FIRST_TABLE + port)) 2> /dev/null; do :; done
            ip $family rule del pref 10 iif "nic$port" lookup local 2> /dev/null || true
        done
        ip link del "nic$port"
    done
    for family in -4 -6; do
        ip $family rule add pref 0 lookup local
        ip $family rule del pref 100 lookup local
    done
    ip link del switch
}

end_of() { # cable, end
    case $2 in
    nic) echo "nic$1" ;;
    switch) echo "sw$1" ;;
    *) echo "fabric.sh: an end is nic or switch, not $2" >&2; exit 2 ;;
    esac
}

fault() { # cable, end, what
    device=$(end_of "$1" "$2")
    shift 2
    if [ "$1" = down ]; then
        ip link set "$device" down
    else
        tc qdisc replace dev "$device" root netem "$@"
    fi
}

clear_cable() {
    for device in "nic$1" "sw$1"; do
        if tc qdisc show dev "$device" root | grep -q netem; then tc qdisc del dev "$device" root; fi
        ip link set "$device" up
    done
    number "$1" "$(subnet "$1")"
}

remove() { if [ -e "/sys/class/infiniband/rxe$1" ]; then rdma link delete "rxe$1"; fi; }
add() { rdma link add "rxe$1" type rxe netdev "nic$1"; }

show() {
    rdma link show
    for port in $(ports); do
        # One process for the whole table, which has a thousand places.
        (cd "/sys/class/infiniband/rxe$port/ports/1/gids" 2> /dev/null && grep -v '^[0:]*$' ./*) \
            | sed "s|^\./\([0-9]*\):|rxe$port gid \1 |" || true
        for device in "nic$port" "sw$port"; do
            tc qdisc show dev "$device" root | sed -n "s/^qdisc netem .* limit [0-9]* */$device fault: /p"
            if ! ip link show dev "$device" | grep -q '<[^>]*[<,]UP[,>]'; then echo "$device fault: down"; fi
        done
    done
}

command=${1:-}
if [ $# -gt 0 ]; then shift; fi
case $command in
up) up "${1:-4}" ;;
down) down ;;
fault)
    if [ $# -lt 3 ]; then echo "fabric.sh fault N nic|switch down|NETEM…" >&2; exit 2; fi
    must_be_port "$1"
    fault "$@"
    ;;
clear) for port in ${1:-$(ports)}; do must_be_port "$port"; clear_cable "$port"; done ;;
remove | add)
    must_be_port "${1:-0}"
    "$command" "$1"
    ;;
renumber)
    must_be_port "${1:-0}"
    unnumber "$1" "$(subnet "$1")"
    number "$1" "$2"
    ;;
show) show ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
