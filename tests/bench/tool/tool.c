/*
 * The processes round a monitor under measurement, in one static program: the
 * OCI runtime, the container it starts, and the far ends of its streams. They
 * are as small as can be, so that what is measured is the monitor.
 *
 * tool.go has the same program in Go for machines without a C compiler.
 *
 *   tool MODE [ARG...] create --bundle B --pid-file P [--console-socket S] ID
 *       the runtime: forks the container, writes its pid, exits. MODE says what
 *       the container does after SIGUSR1 (sent when the clock starts):
 *         pause            nothing, without waiting for the signal
 *         write LEN TOTAL  writes TOTAL bytes in lines of LEN, exits
 *         fill LEN TOTAL   the same, and stays
 *         tick COUNT USEC  writes the monotonic time, a line every USEC, exits
 *   tool feed LEN TOTAL    writes like "write", at once
 *   tool copy LEN FILE     copies standard input to FILE, inflated by what a
 *                          record's head would add, without looking at it
 *   tool drain             reads packets from standard input until the end,
 *                          prints the number of payload bytes
 *   tool watch FILE COUNT  spins on FILE until COUNT lines of "tick" are there,
 *                          prints the age of each when it appeared, in ns
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	CHUNK = 65536,
	HEAD = 45, /* "2006-01-02T15:04:05.999999999+01:00 stdout F " */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);
		if (w < 0) {
			if (errno == EINTR)
				continue;
			die("write");
		}
		p += w;
		n -= w;
	}
}

/* Writes total bytes in lines of len (newline included), as fast as they go. */
static void write_lines(size_t len, long long total)
{
	size_t lines = len < CHUNK ? CHUNK / len : 1;
	size_t size = lines * len;
	char *buf = malloc(size);
	if (!buf)
		die("malloc");
	for (size_t i = 0; i < size; i++)
		buf[i] = i % len == len - 1 ? '\n' : 'a' + i % 26;
	for (; total >= (long long)size; total -= size)
		put(1, buf, size);
	put(1, buf, total - total % (long long)len);
	free(buf);
}

static void tick(long count, long usec)
{
	struct timespec due;
	clock_gettime(CLOCK_MONOTONIC, &due);
	for (long i = 0; i < count; i++) {
		char line[32];
		due.tv_nsec += usec * 1000;
		due.tv_sec += due.tv_nsec / 1000000000;
		due.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
		put(1, line, snprintf(line, sizeof line, "%lld\n", now()));
	}
}

static void container(char **mode)
{
	if (strcmp(mode[0], "pause") != 0) {
		sigset_t set;
		int sig;
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigwait(&set, &sig);
		if (strcmp(mode[0], "tick") == 0) {
			tick(atol(mode[1]), atol(mode[2]));
			return;
		}
		write_lines(atol(mode[1]), atoll(mode[2]));
		if (strcmp(mode[0], "write") == 0)
			return;
	}
	for (;;)
		pause();
}

/* Opens a terminal, sends its master to the monitor, makes the slave stdio. */
static void terminal(const char *path)
{
	int zero = 0, master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
	int slave, sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {"pty", 3};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0)
		die("/dev/ptmx");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	if (slave < 0)
		die("pty slave");
	strncpy(addr.sun_path, path, sizeof addr.sun_path - 1);
	if (connect(sock, (struct sockaddr *)&addr, sizeof addr) < 0)
		die(path);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &master, sizeof(int));
	if (sendmsg(sock, &msg, 0) < 0)
		die("send the pty master");
	for (int fd = 0; fd < 3; fd++)
		dup2(slave, fd);
	close(slave);
	close(master);
	close(sock);
}

static void create(char **mode, char **opts)
{
	const char *pidfile = NULL, *console = NULL;
	char tmp[4096], pid[16];
	sigset_t set;
	int fd;

	for (; *opts; opts++) {
		if (strcmp(*opts, "--pid-file") == 0 && opts[1])
			pidfile = *++opts;
		else if (strcmp(*opts, "--console-socket") == 0 && opts[1])
			console = *++opts;
	}
	if (!pidfile)
		die("no --pid-file");
	/* Blocked before the fork: the signal may come any time after it. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (console)
		terminal(console);
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		setsid();
		if (console)
			ioctl(0, TIOCSCTTY, 0);
		container(mode);
		_exit(0);
	}
	snprintf(tmp, sizeof tmp, "%s.tmp", pidfile);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die(tmp);
	put(fd, pid, snprintf(pid, sizeof pid, "%d", (int)child));
	if (rename(tmp, pidfile) < 0)
		die(pidfile);
	_exit(0);
}

static void copy(size_t len, const char *path)
{
	static char in[CHUNK];
	/* Lines shorter than a record's head grow most: room for a line of one byte. */
	size_t room = (size_t)CHUNK * (1 + HEAD);
	char *out = malloc(room);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0640);
	ssize_t n;

	if (!out || fd < 0)
		die(path);
	memset(out, 'x', room);
	while ((n = read(0, in, sizeof in)) > 0)
		put(fd, out, n + n / (double)len * HEAD);
}

static void drain(void)
{
	static char buf[CHUNK];
	long long total = 0;
	ssize_t n;
	while ((n = read(0, buf, sizeof buf)) > 0)
		total += n - 1; /* the first byte names the stream */
	printf("%lld\n", total);
}

/*
 * Runs at idle priority, so that whatever the monitor or the container has to do
 * goes first, and on one processor, so that the others stay free.
 */
static void stand_aside(void)
{
	struct sched_param none = {0};
	cpu_set_t set;
	int last = -1;
	sched_setscheduler(0, SCHED_IDLE, &none);
	if (sched_getaffinity(0, sizeof set, &set) < 0)
		return;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			last = i;
	CPU_ZERO(&set);
	CPU_SET(last, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static void watch(const char *path, long count)
{
	static char buf[CHUNK];
	long long *age = malloc(count * sizeof *age), give_up = now() + 60 * 1000000000LL;
	int fd = open(path, O_RDONLY);
	off_t at = 0;
	long seen = 0;

	if (fd < 0 || !age)
		die(path);
	stand_aside();
	while (seen < count) {
		ssize_t n = pread(fd, buf, sizeof buf, at);
		long long t = now();
		char *line = buf, *end;
		if (n < 0 || t > give_up)
			die("watch");
		while (seen < count && (end = memchr(line, '\n', buf + n - line))) {
			char *text = memrchr(line, ' ', end - line);
			if (text && end - text > 1)
				age[seen++] = t - atoll(text + 1);
			at += end + 1 - line;
			line = end + 1;
		}
	}
	for (long i = 0; i < seen; i++)
		printf("%lld\n", age[i]);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "create") == 0) {
			argv[i] = NULL;
			create(argv + 1, argv + i + 1);
		}
	}
	if (argc == 4 && strcmp(argv[1], "feed") == 0)
		write_lines(atol(argv[2]), atoll(argv[3]));
	else if (argc == 4 && strcmp(argv[1], "copy") == 0)
		copy(atol(argv[2]), argv[3]);
	else if (argc == 2 && strcmp(argv[1], "drain") == 0)
		drain();
	else if (argc == 4 && strcmp(argv[1], "watch") == 0)
		watch(argv[2], atol(argv[3]));
	else
		return 2;
	return 0;
}
