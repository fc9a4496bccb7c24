#!/bin/bash
# A machine of its own on this one: the host's root below an overlay, namespaces for processes, mounts, network, IPC and cgroups,
# and either systemd or nothing as PID 1. What is written in it stays in memory and goes with it.
#
#   boot.sh DIRECTORY systemd|idle      DIRECTORY is empty and becomes, inside, /machine
#
# Needs root. It prints nothing: DIRECTORY/console has what PID 1 says, and the caller enters with nsenter.
set -e
directory=$1 init=$2
if [ -z "$MACHINE_INSIDE" ]; then
    # Its own branch of the second hierarchy, so that the new cgroup namespace has it as its root.
    control=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    mkdir "$control/$(basename "$directory")-$$"
    echo $$ > "$control/$(basename "$directory")-$$/cgroup.procs"
    echo "$control/$(basename "$directory")-$$" > "$directory/cgroup"
    # Its processes die with this one, even when this one is killed.
    exec env MACHINE_INSIDE=1 unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child --propagation private "$0" "$@"
fi

layer=$directory/layer new=$directory/layer/new
mkdir "$layer"
mount -t tmpfs -o mode=755 machine "$layer"
mkdir "$layer/upper" "$layer/work" "$new"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" machine "$new"
mount -t proc proc "$new/proc"
mount -t sysfs -o ro sysfs "$new/sys"
mount -t tmpfs -o mode=755 tmpfs "$new/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mount -t tmpfs -o mode=755,dev tmpfs "$new/dev"
node() { mknod -m "$5" "$new/dev/$1" "$2" "$3" "$4"; }
node null c 1 3 666; node zero c 1 5 666; node full c 1 7 666; node random c 1 8 666; node urandom c 1 9 666; node tty c 5 0 666
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$new/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
# What PID 1 says goes to a file that is a terminal to it.
: > "$directory/console"
: > "$new/dev/console"
mount --bind "$directory/console" "$new/dev/console"

# Devices of hardware that this host lacks: nodes of their majors, and those majors in the list that service managers match against.
mkdir "$new/dev/infiniband"
node infiniband/uverbs0 c 231 192 666; node infiniband/rdma_cm c 10 250 666
node nvidia0 c 195 0 666; node nvidiactl c 195 255 666; node nvidia-uvm c 510 0 666
node loop0 b 7 0 666; node mem c 1 1 666; node fuse c 10 229 666
{ sed '/^$/,$d' /proc/devices | grep -vE ' (infiniband|nvidia)'
  printf '195 nvidia-frontend\n231 infiniband_mad\n231 infiniband_verbs\n510 nvidia-uvm\n'
  sed -n '/^$/,$p' /proc/devices; } > "$layer/devices"
mount --bind "$layer/devices" "$new/proc/devices"

# Of the host's services none starts; the journal is what messages are read from. No mount, no swap, no generator.
rm -rf "$new"/{etc,usr/lib}/systemd/system/*.{wants,requires,upholds} "$new"/usr/lib/systemd/system-generators "$new/etc/fstab"
mkdir -p "$new/etc/systemd/system/sockets.target.wants"
for unit in systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s "/lib/systemd/system/$unit" "$new/etc/systemd/system/sockets.target.wants/"
done
# A host that lets packages start nothing (a container image) is not what is tried here.
rm -rf "$new/var/log/journal" "$new/usr/sbin/policy-rc.d"
# Without an identity it would be a first boot, and all presets be applied.
tr -d - < /proc/sys/kernel/random/uuid > "$new/etc/machine-id"
mkdir -p "$new/machine" "$new/machine-upper"
mount --bind "$directory" "$new/machine"
# What was written, for whoever accounts for it.
mount --bind "$layer/upper" "$new/machine-upper"
hostname machine
ip link set lo up

cd "$new"
mkdir -p machine-host
pivot_root . machine-host
umount -l /machine-host
exec < /dev/null > /dev/console 2>&1
if [ "$init" = systemd ]; then
    exec env -i container=railgauge-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --show-status=0
fi
exec sleep infinity
