/* A process without any capability that wants a queue of somebody's tun device. Each line of its output is a word about
 * what came of it. It ends when it is killed, or when its standard input ends.
 *
 * tun_attacker join NAME             attaches to the device NAME as soon as it can, then reads packets from it
 * tun_attacker watch DEED TIMES      attaches to each new device that the kernel tells of, TIMES times at most, before
 *                                    it has an owner. DEED: stay, detach (and attach again later), persist (and close)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Every choice that its maker may have made. */
static const short CHOICES[] = {
    IFF_MULTI_QUEUE | IFF_VNET_HDR,
    IFF_MULTI_QUEUE,
    IFF_VNET_HDR,
    0,
};

/* A queue of the device, or -1; `errno` is then EPERM if that was any answer. */
static int attach(const char *name) {
    int refused = EINVAL;
    for (unsigned i = 0; i < sizeof CHOICES / sizeof *CHOICES; i++) {
        struct ifreq request = {0};
        int node = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        if (node < 0) {
            perror("/dev/net/tun");
            exit(1);
        }
        strncpy(request.ifr_name, name, IFNAMSIZ - 1);
        request.ifr_flags = IFF_TUN | IFF_NO_PI | CHOICES[i];
        if (ioctl(node, TUNSETIFF, &request) == 0)
            return node;
        if (errno == EPERM)
            refused = EPERM;
        close(node);
    }
    errno = refused;
    return -1;
}

static int set_queue(int queue, short flag) {
    struct ifreq request = {0};
    request.ifr_flags = flag;
    return ioctl(queue, TUNSETQUEUE, &request);
}

static void say(const char *word, const char *more) {
    fprintf(stderr, "%s %s\n", word, more);
}

static void join(const char *name) {
    static char packet[65600];
    int queue, told = 0;
    say("trying", name);
    for (;;) {
        int there = if_nametoindex(name) != 0;
        queue = attach(name);
        if (queue >= 0)
            break;
        /* before it is there, EPERM is about making one */
        if (there && errno == EPERM && if_nametoindex(name) != 0 && told++ == 0)
            say("refused", name);
        usleep(1000);
    }
    say("attached", name);
    for (;;)
        if (read(queue, packet, sizeof packet) > 0)
            say("read", name);
        else
            usleep(1000);
}

/* The name in an RTM_NEWLINK. */
static const char *name_of(struct nlmsghdr *message) {
    struct ifinfomsg *link = NLMSG_DATA(message);
    int length = IFLA_PAYLOAD(message);
    for (struct rtattr *at = IFLA_RTA(link); RTA_OK(at, length); at = RTA_NEXT(at, length))
        if (at->rta_type == IFLA_IFNAME)
            return RTA_DATA(at);
    return "";
}

static void watch(const char *deed, int times) {
    static char buffer[65536];
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int queue = -1, events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (events < 0 || bind(events, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("netlink");
        exit(1);
    }
    say("watching", "");
    for (;;) {
        struct pollfd event = {.fd = events, .events = POLLIN};
        int detached = queue >= 0 && strcmp(deed, "detach") == 0;
        /* one that it detached it attaches again and again */
        poll(&event, 1, detached ? 20 : -1);
        if (detached && set_queue(queue, IFF_ATTACH_QUEUE) == 0) {
            say("again", "");
            set_queue(queue, IFF_DETACH_QUEUE);
        }
        if (!event.revents)
            continue;
        int length = recv(events, buffer, sizeof buffer, 0);
        for (struct nlmsghdr *at = (struct nlmsghdr *)buffer; NLMSG_OK(at, length); at = NLMSG_NEXT(at, length)) {
            if (at->nlmsg_type != RTM_NEWLINK || times == 0)
                continue;
            int node = attach(name_of(at));
            if (node < 0)
                continue;
            times--;
            queue = node;
            if (strcmp(deed, "detach") == 0)
                set_queue(queue, IFF_DETACH_QUEUE);
            if (strcmp(deed, "persist") == 0) {
                ioctl(queue, TUNSETPERSIST, 1);
                close(queue);
                queue = -1;
            }
            say("attached", name_of(at));
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "join") == 0)
        join(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "watch") == 0)
        watch(argv[2], atoi(argv[3]));
    return 2;
}
