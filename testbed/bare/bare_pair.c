/*
 * The least a busy-polling pair with kernel stamps can do: one thread sends at fixed times and polls for the reply, the
 * other answers; both take the stamp of every arrival and departure. No packet format but a sequence number, no
 * histogram, no account.
 *
 * Its round trip is the floor for app RTT of `railgauge ping --busy-poll` on a machine (`cargo xtask long sockperf`):
 * what lies between it and sockperf, which takes no stamps, is what stamps cost here.
 *
 *     cc -O2 -pthread -o bare_pair bare_pair.c && ./bare_pair SIZE COUNT INTERVAL_NS CLIENT_CPU SERVER_CPU
 *
 * Prints one JSON object, round trips in nanoseconds from just before the send call to just after the receive call.
 * Exits 0 with any reply, 3 with none, 2 on wrong usage or when a socket cannot be set up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define NANOS 1000000000LL
#define MOST_SIZE 2048
/* A reply that takes longer counts as lost. */
#define TIMEOUT_NS (100 * 1000000LL)

static atomic_int stop;

struct server {
    int fd;
    int cpu;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NANOS + t.tv_nsec;
}

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static int open_stamped(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) < 0)
        return -1;
    return fd;
}

/* One packet or one departure stamp, with everything the kernel says about it. */
static ssize_t take(int fd, char *buffer, struct sockaddr_in *from, int flags)
{
    _Alignas(8) char control[256];
    struct iovec part = {buffer, MOST_SIZE};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    header.msg_name = from;
    header.msg_namelen = from ? sizeof *from : 0;
    return recvmsg(fd, &header, flags | MSG_DONTWAIT);
}

static void *serve(void *argument)
{
    struct server *server = argument;
    char buffer[MOST_SIZE];
    struct sockaddr_in from;
    pin(server->cpu);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        ssize_t length = take(server->fd, buffer, &from, 0);
        if (length <= 0)
            continue;
        sendto(server->fd, buffer, (size_t)length, MSG_DONTWAIT, (struct sockaddr *)&from, sizeof from);
        take(server->fd, buffer, NULL, MSG_ERRQUEUE);
    }
    return NULL;
}

/* The round trip of probe `sequence`, or -1. Replies to earlier probes are passed over. */
static int64_t probe(int fd, char *packet, size_t size, uint32_t sequence)
{
    char buffer[MOST_SIZE];
    memcpy(packet, &sequence, sizeof sequence);
    int64_t sent = now_ns();
    if (send(fd, packet, size, MSG_DONTWAIT) < 0)
        return -1;
    for (;;) {
        ssize_t length = take(fd, buffer, NULL, 0);
        int64_t at = now_ns();
        if (length == (ssize_t)size && memcmp(buffer, &sequence, sizeof sequence) == 0) {
            take(fd, buffer, NULL, MSG_ERRQUEUE);
            return at - sent;
        }
        if (at - sent > TIMEOUT_NS) {
            take(fd, buffer, NULL, MSG_ERRQUEUE);
            return -1;
        }
    }
}

static int rising(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s SIZE COUNT INTERVAL_NS CLIENT_CPU SERVER_CPU\n", argv[0]);
        return 2;
    }
    size_t size = strtoul(argv[1], NULL, 10);
    long count = strtol(argv[2], NULL, 10);
    int64_t interval = strtoll(argv[3], NULL, 10);
    struct server server = {open_stamped(), atoi(argv[5])};
    int fd = open_stamped();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (size < 4 || size > MOST_SIZE || count < 1 || server.fd < 0 || fd < 0 ||
        bind(server.fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        getsockname(server.fd, (struct sockaddr *)&address, &length) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || pin(atoi(argv[4])) != 0) {
        fprintf(stderr, "wrong arguments, or a socket with kernel stamps or the CPU cannot be had\n");
        return 2;
    }
    int64_t *trips = calloc((size_t)count, sizeof *trips);
    char *packet = calloc(1, MOST_SIZE);
    pthread_t thread;
    if (!trips || !packet || pthread_create(&thread, NULL, serve, &server) != 0)
        return 2;
    long replies = 0;
    int64_t slot = now_ns();
    for (long i = 0; i < count; i++) {
        while (now_ns() < slot)
            ;
        int64_t trip = probe(fd, packet, size, (uint32_t)i);
        if (trip >= 0)
            trips[replies++] = trip;
        slot += interval;
        /* Closed loop in a stall: a floor has no use for the wait of those behind it. */
        if (now_ns() > slot)
            slot = now_ns() + interval;
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    if (replies == 0)
        return 3;
    qsort(trips, (size_t)replies, sizeof *trips, rising);
    printf("{\"sent\": %ld, \"received\": %ld, \"min_ns\": %lld, \"p50_ns\": %lld, \"p99_ns\": %lld}\n", count, replies,
           (long long)trips[0], (long long)trips[(replies - 1) / 2], (long long)trips[(replies - 1) * 99 / 100]);
    return 0;
}
