"""What a service may touch, tried from inside its own sandbox: prints JSON, of each path the name of the error, or "" where there was none.

A device without a driver behind it answers ENXIO or ENODEV: then the policy let the call through to it. EPERM and EACCES are the policy.
"""

import errno
import json
import os
import resource
import socket
import sys


def tried(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return ""


def device(path):
    return lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def made(path):
    return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def sock(family, kind, protocol=0):
    return lambda: socket.socket(family, kind, protocol).close()


DEVICES = (
    "/dev/infiniband/uverbs0 /dev/infiniband/rdma_cm /dev/nvidia0 /dev/nvidiactl /dev/nvidia-uvm /dev/null "
    "/dev/loop0 /dev/mem /dev/fuse"
).split()
soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
print(
    json.dumps(
        {
            "devices": {path: tried(device(path)) for path in DEVICES},
            "writes": {
                path: tried(made(path + "/of-the-sandbox-test"))
                for path in ("/etc", "/usr", "/var", "/var/lib", "/home", "/proc/sys", "/sys", os.environ["STATE_DIRECTORY"])
            },
            "sockets": {
                "udp": tried(sock(socket.AF_INET, socket.SOCK_DGRAM)),
                "netlink": tried(sock(socket.AF_NETLINK, socket.SOCK_RAW)),
                "raw": tried(sock(socket.AF_INET, socket.SOCK_RAW, 1)),
                "packet": tried(sock(socket.AF_PACKET, socket.SOCK_RAW)),
            },
            "affinity": tried(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
            "priority": tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
            "nice": tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
            "memlock": [soft, hard],
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "uid": os.getuid(),
        }
    ),
    file=open(sys.argv[1], "w"),
)
