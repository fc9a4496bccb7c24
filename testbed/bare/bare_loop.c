/*
 * The least a STAMP prober with kernel stamps can do: sleep to the slot, send, wait for the reply, read the
 * transmit stamp from the error queue. No histogram, no account, no loss detection beyond a time-out.
 *
 * What it costs is the yardstick for the CPU time of `railgauge ping` (`cargo xtask long cpu`).
 *
 *     cc -O2 -o bare_loop bare_loop.c && ./bare_loop 127.0.0.1 PORT COUNT INTERVAL_NS
 *
 * Prints one JSON object. Exits 0 with any reply, 3 with none, 2 on wrong usage or when the socket cannot be set up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define NANOS 1000000000LL
/* RFC 8762 4.2.1: an unauthenticated Session-Sender packet. */
#define BASE_SIZE 44
/* RFC 8762 4.1.1: seconds from 1900 (NTP) to 1970 (Unix). */
#define NTP_OFFSET 2208988800LL

struct counts { long sent, received, timed_out, tx_stamps, rx_stamps; };

static void die(const char *what)
{
	fprintf(stderr, "bare_loop: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t nanos(struct timespec t) { return t.tv_sec * NANOS + t.tv_nsec; }

static int64_t now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return nanos(t);
}

static void sleep_until(int64_t deadline)
{
	struct timespec t = { deadline / NANOS, deadline % NANOS };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static int open_socket(const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	struct timeval bound = { .tv_sec = 1 };
	int stamps = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
		     SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die("socket or address");
	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		die("connect");
	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps))
		die("SO_TIMESTAMPING");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound))
		die("SO_RCVTIMEO");
	return fd;
}

static void write_packet(uint8_t *packet, uint32_t sequence)
{
	int64_t wall = now(CLOCK_REALTIME);
	uint32_t field[3] = { htonl(sequence), htonl((uint32_t)(wall / NANOS + NTP_OFFSET)),
			      htonl((uint32_t)(((uint64_t)(wall % NANOS) << 32) / NANOS)) };

	memset(packet, 0, BASE_SIZE);
	memcpy(packet, field, sizeof field);
	packet[13] = 1; /* error estimate: unsynchronised, NTP, multiplier 1 (0 is invalid) */
}

/* The kernel's stamp of one message from the receive or the error queue; 0 when it carries none, -1 when there
 * is no message. The payload's first four octets go to *sequence. */
static int64_t stamped(int fd, int flags, uint32_t *sequence)
{
	uint8_t payload[512];
	union { char bytes[512]; struct cmsghdr align; } control;
	struct iovec part = { payload, sizeof payload };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
				  .msg_controllen = sizeof control.bytes };
	ssize_t size = recvmsg(fd, &message, flags);
	int64_t stamp = 0;

	if (size < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING) {
			struct scm_timestamping s;
			memcpy(&s, CMSG_DATA(c), sizeof s);
			stamp = nanos(s.ts[0]);
		}
	}
	if (size >= 4) {
		uint32_t wire;
		memcpy(&wire, payload, sizeof wire);
		*sequence = ntohl(wire);
	}
	return stamp;
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void probe(int fd, uint32_t sequence, int64_t slot, struct counts *n, int64_t *app_rtt, int64_t *wire_rtt)
{
	uint8_t packet[BASE_SIZE];
	uint32_t answered = 0, ignored = 0;
	int64_t t1, t4;

	sleep_until(slot);
	write_packet(packet, sequence);
	if (send(fd, packet, sizeof packet, 0) != sizeof packet)
		return;
	n->sent++;
	do { /* a reply later than its time-out comes before the one awaited */
		t4 = stamped(fd, 0, &answered);
	} while (t4 >= 0 && answered != sequence);
	t1 = stamped(fd, MSG_ERRQUEUE | MSG_DONTWAIT, &ignored);
	n->tx_stamps += t1 > 0;
	if (t4 < 0) {
		n->timed_out++;
		return;
	}
	n->rx_stamps += t4 > 0;
	app_rtt[n->received] = now(CLOCK_MONOTONIC) - slot;
	wire_rtt[n->received] = t4 - t1;
	n->received++;
}

static void print(const struct counts *n, int64_t *app_rtt, int64_t *wire_rtt)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	qsort(app_rtt, n->received, sizeof *app_rtt, ascending);
	qsort(wire_rtt, n->received, sizeof *wire_rtt, ascending);
	printf("{\"sent\":%ld,\"received\":%ld,\"timed_out\":%ld,\"tx_stamps\":%ld,\"rx_stamps\":%ld,", n->sent,
	       n->received, n->timed_out, n->tx_stamps, n->rx_stamps);
	printf("\"app_rtt_p50_ns\":%lld,\"wire_rtt_p50_ns\":%lld,", (long long)app_rtt[n->received / 2],
	       (long long)wire_rtt[n->received / 2]);
	printf("\"user_us\":%lld,\"system_us\":%lld}\n", used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
	       used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
	struct counts n = { 0 };

	if (argc != 5 || atol(argv[3]) <= 0 || atoll(argv[4]) <= 0) {
		fprintf(stderr, "usage: bare_loop IPV4-ADDRESS PORT COUNT INTERVAL_NS\n");
		return 2;
	}
	long count = atol(argv[3]);
	int64_t interval = atoll(argv[4]);
	int64_t *app_rtt = calloc(count + 1, sizeof *app_rtt), *wire_rtt = calloc(count + 1, sizeof *wire_rtt);
	if (!app_rtt || !wire_rtt)
		die("memory for the samples");
	int fd = open_socket(argv[1], argv[2]);
	int64_t start = now(CLOCK_MONOTONIC) + interval;

	for (long i = 0; i < count; i++)
		probe(fd, (uint32_t)i, start + i * interval, &n, app_rtt, wire_rtt);
	print(&n, app_rtt, wire_rtt);
	return n.received > 0 ? 0 : 3;
}
