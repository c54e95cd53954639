/*
 * Put before the C library, gives a process nf_tables as kernels before 6.9 have it: tables cannot be owned, so that
 * anybody can change them. The flags `owner` and `persist` are replaced by one that no kernel knows, and the kernel's
 * own refusal comes back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define OWNED 6u
#define UNKNOWN 0x80000000u
#define HEADERS (sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg))

static ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);

__attribute__((constructor)) static void find_next(void) {
    next = (ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "sendto");
}

/* Replaces flags of new tables that are `from`. */
static void replace_flags(char *bytes, size_t length, uint32_t from, uint32_t to) {
    struct nlmsghdr header;
    for (size_t at = 0; at + HEADERS <= length; at += NLMSG_ALIGN(header.nlmsg_len)) {
        memcpy(&header, bytes + at, sizeof header);
        if (header.nlmsg_len < HEADERS || header.nlmsg_len > length - at)
            return;
        if (header.nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE))
            continue;
        struct nlattr attribute;
        for (size_t place = at + HEADERS; place + 8 <= at + header.nlmsg_len;
             place += NLMSG_ALIGN(attribute.nla_len)) {
            memcpy(&attribute, bytes + place, sizeof attribute);
            if (attribute.nla_len < sizeof attribute)
                return;
            uint32_t value;
            memcpy(&value, bytes + place + sizeof attribute, sizeof value);
            if (attribute.nla_type == NFTA_TABLE_FLAGS && value == htonl(from)) {
                value = htonl(to);
                memcpy(bytes + place + sizeof attribute, &value, sizeof value);
            }
        }
    }
}

ssize_t sendto(int file, const void *bytes, size_t length, int flags, const struct sockaddr *address,
               socklen_t address_length) {
    int is_netlink = address && address->sa_family == AF_NETLINK;
    if (is_netlink)
        replace_flags((char *)bytes, length, OWNED, UNKNOWN);
    ssize_t result = next(file, bytes, length, flags, address, address_length);
    if (is_netlink)
        replace_flags((char *)bytes, length, UNKNOWN, OWNED);
    return result;
}
