/*
 * The least a node of the mesh can do, in one thread: probe N targets on staggered open-loop schedules, take the kernel's
 * stamp of every departure and arrival, and answer the probes of others, stamped alike. No histogram, no window, no
 * account, no loss detection, nothing written or sent anywhere.
 *
 * One connected socket a target and one that answers, all on one epoll descriptor; the wait ends at the next slot to the
 * nanosecond (epoll_pwait2), so that a wake-up costs one call.
 *
 * What it costs is the yardstick for the CPU time of `railgauge-agent` (`cargo xtask long agent-cost`).
 *
 *     cc -O2 -o bare_node bare_node.c && ./bare_node INTERVAL_NS PORT... (on 127.0.0.1; says where it answers, ends by SIGTERM)
 *
 * Prints one JSON object. Exits 2 on wrong usage or when a socket cannot be set up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define NANOS 1000000000LL
/* An unauthenticated STAMP packet (RFC 8762 4.2.1) with the telemetry that the agent asks for. */
#define SIZE 72
/* RFC 8762 4.1.1: seconds from 1900 (NTP) to 1970 (Unix). */
#define NTP_OFFSET 2208988800LL
#define EVENTS 64
#define RESPONDER UINT32_MAX

struct target { int fd; uint32_t sequence; int64_t slot, t1, rtt_sum; };
struct counts { long sent, received, tx_stamps, rx_stamps, answered, answer_stamps; };
struct arrival { struct sockaddr_in from; uint8_t payload[2048]; ssize_t size; int64_t stamp; int ttl; };

static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

static void die(const char *what)
{
	fprintf(stderr, "bare_node: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t nanos(struct timespec t) { return t.tv_sec * NANOS + t.tv_nsec; }

static int64_t now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return nanos(t);
}

static int open_socket(int port, int connected)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int stamps = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
		     SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || (connected ? connect : bind)(fd, (struct sockaddr *)&at, sizeof at))
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps) ||
	    setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on))
		die("setsockopt");
	return fd;
}

/* Reads one message from the receive or the error queue; 0 when there is none. */
static int take(int fd, int flags, struct arrival *a)
{
	union { char bytes[256]; struct cmsghdr align; } control;
	struct iovec part = { a->payload, sizeof a->payload };
	struct msghdr message = { .msg_name = &a->from, .msg_namelen = sizeof a->from, .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };

	a->size = recvmsg(fd, &message, flags | MSG_DONTWAIT);
	a->stamp = 0;
	if (a->size < 0)
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING) {
			struct scm_timestamping s;
			memcpy(&s, CMSG_DATA(c), sizeof s);
			a->stamp = nanos(s.ts[0]);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) {
			memcpy(&a->ttl, CMSG_DATA(c), sizeof a->ttl);
		}
	}
	return 1;
}

static void write_stamp(uint8_t *at, int64_t wall)
{
	uint32_t field[2] = { htonl((uint32_t)(wall / NANOS + NTP_OFFSET)),
			      htonl((uint32_t)(((uint64_t)(wall % NANOS) << 32) / NANOS)) };
	memcpy(at, field, sizeof field);
}

static void probe(struct target *t, struct counts *n)
{
	uint8_t packet[SIZE] = { 0 };
	uint32_t sequence = htonl(t->sequence++);
	struct arrival departure;

	memcpy(packet, &sequence, sizeof sequence);
	write_stamp(packet + 4, now(CLOCK_REALTIME));
	packet[13] = 1; /* error estimate: unsynchronised, NTP, multiplier 1 (0 is invalid) */
	if (send(t->fd, packet, sizeof packet, 0) != sizeof packet)
		return;
	n->sent++;
	if (take(t->fd, MSG_ERRQUEUE, &departure)) {
		n->tx_stamps++;
		t->t1 = departure.stamp;
	}
}

static void read_reply(struct target *t, struct counts *n)
{
	struct arrival reply, departure;

	if (!take(t->fd, 0, &reply)) {
		take(t->fd, MSG_ERRQUEUE, &departure);
		return;
	}
	n->received++;
	n->rx_stamps += reply.stamp > 0;
	t->rtt_sum += reply.stamp - t->t1;
}

/* RFC 8762 4.3.1: own number, departure, error estimate, arrival, the request's first 14 octets, its TTL. */
static void answer(int fd, struct counts *n)
{
	struct arrival request, departure;
	uint8_t reply[2048];

	/* Where more wait, the next call for events says so. */
	if (!take(fd, 0, &request) || request.size < 44)
		return;
	memset(reply, 0, request.size);
	memcpy(reply, request.payload, 4);
	reply[13] = 1;
	write_stamp(reply + 16, request.stamp);
	memcpy(reply + 24, request.payload, 14);
	reply[40] = request.ttl;
	write_stamp(reply + 4, now(CLOCK_REALTIME));
	if (sendto(fd, reply, request.size, 0, (struct sockaddr *)&request.from, sizeof request.from) != request.size)
		return;
	n->answered++;
	n->answer_stamps += take(fd, MSG_ERRQUEUE, &departure) && departure.stamp > 0;
}

static void add(int epoll, int fd, uint32_t index)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

static void run(int epoll, struct target *targets, uint32_t count, int64_t interval, int responder, struct counts *n)
{
	struct epoll_event events[EVENTS];
	uint32_t next = 0; /* slots come in the order of the targets */

	while (!stopped) {
		int64_t wait = targets[next].slot - now(CLOCK_MONOTONIC);

		if (wait <= 0) {
			probe(&targets[next], n);
			targets[next].slot += interval;
			next = (next + 1) % count;
			continue;
		}
		struct timespec bound = { wait / NANOS, wait % NANOS };
		int ready = epoll_pwait2(epoll, events, EVENTS, &bound, NULL);
		for (int i = 0; i < ready; i++) {
			if (events[i].data.u32 == RESPONDER)
				answer(responder, n);
			else
				read_reply(&targets[events[i].data.u32], n);
		}
	}
}

int main(int argc, char **argv)
{
	struct counts n = { 0 };
	struct sockaddr_in at;
	socklen_t length = sizeof at;
	int64_t interval = argc > 2 ? atoll(argv[1]) : 0;
	uint32_t count = argc > 2 ? argc - 2 : 0;
	struct target *targets = calloc(count + 1, sizeof *targets);

	if (interval <= 0 || !targets) {
		fprintf(stderr, "usage: bare_node INTERVAL_NS PORT...\n");
		return 2;
	}
	int epoll = epoll_create1(EPOLL_CLOEXEC), responder = open_socket(0, 0);
	if (epoll < 0 || getsockname(responder, (struct sockaddr *)&at, &length))
		die("epoll or address");
	/* The default slack of 50 us would make probes late. */
	prctl(PR_SET_TIMERSLACK, 1);
	add(epoll, responder, RESPONDER);
	int64_t start = now(CLOCK_MONOTONIC) + interval;
	for (uint32_t i = 0; i < count; i++) {
		targets[i].fd = open_socket(atoi(argv[i + 2]), 1);
		targets[i].slot = start + interval / count * i;
		add(epoll, targets[i].fd, i);
	}
	struct sigaction action = { .sa_handler = stop };
	sigaction(SIGTERM, &action, NULL);
	fprintf(stderr, "listening on 127.0.0.1:%d\n", ntohs(at.sin_port));
	run(epoll, targets, count, interval, responder, &n);
	int64_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += targets[i].rtt_sum;
	printf("{\"sent\":%ld,\"received\":%ld,\"tx_stamps\":%ld,\"rx_stamps\":%ld,", n.sent, n.received, n.tx_stamps, n.rx_stamps);
	printf("\"answered\":%ld,\"answer_stamps\":%ld,\"mean_rtt_ns\":%lld}\n", n.answered, n.answer_stamps,
	       (long long)(n.received ? sum / n.received : 0));
	return 0;
}
