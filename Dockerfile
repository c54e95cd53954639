# One static file and nothing else: no shell, no libraries. Make that file first:
#     scripts/build-static.sh && docker build --tag wontun .
FROM scratch
ARG VERSION=unknown
# Who publishes the image adds where its source is: --label org.opencontainers.image.source=...
LABEL org.opencontainers.image.title="wontun" \
      org.opencontainers.image.description="A VPN tunnel in one small Linux binary; needs CAP_NET_ADMIN and /dev/net/tun" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY target/static/wontun /bin/wontun
EXPOSE 19988/udp 51820/udp
# The default command, and no CMD: it is read only without arguments, WONTUN_CONFIG and WONTUN_PEER.
ENV WONTUN_COMMAND=serve
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/bin/wontun", "health"]
ENTRYPOINT ["/bin/wontun"]
