/* Puts one Ethernet frame, given in hexadecimal digits, on an interface: what no program of a guest would send by
   itself, and an attacker does. */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    unsigned char frame[2048];
    size_t length = 0;
    unsigned int byte;
    struct sockaddr_ll to;
    int line = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

    if (argc != 3 || line < 0)
        return 1;
    while (length < sizeof frame && sscanf(argv[2] + 2 * length, "%2x", &byte) == 1)
        frame[length++] = byte;
    memset(&to, 0, sizeof to);
    to.sll_family = AF_PACKET;
    to.sll_ifindex = if_nametoindex(argv[1]);
    to.sll_halen = 6;
    memcpy(to.sll_addr, frame, 6);
    return sendto(line, frame, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length ? 0 : 2;
}
