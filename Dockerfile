# The service on Debian slim, as user 10001, with its data in
# /var/lib/ims-receiver; nothing else has to be writable. How to run it:
# docs/deployment.md.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# The dependencies alone, so that they are built again only when they change:
# an empty program in place of ours, and the bench that Cargo.toml names.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && touch src/lib.rs benches/parts.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked --bin ims-receiver
COPY config config
COPY tests/fixtures tests/fixtures
COPY src src
# Cargo goes by time, and the sources may be older than the empty program.
# The names of functions stay, for backtraces; line numbers do not.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --bin ims-receiver \
    && strip --strip-debug target/release/ims-receiver

FROM debian:bookworm-slim
# tini passes signals on and reaps what hooks leave behind.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 ims-receiver \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home \
        --home-dir /var/lib/ims-receiver --shell /usr/sbin/nologin ims-receiver \
    && install -d -o 10001 -g 10001 -m 700 /var/lib/ims-receiver
COPY --from=build /build/target/release/ims-receiver /usr/local/bin/ims-receiver
COPY config/container.toml /etc/ims-receiver/receiver.toml

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/ims-receiver
EXPOSE 8080 9090
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s \
    CMD ["ims-receiver", "health", "--live"]
ENTRYPOINT ["/usr/bin/tini", "--", "ims-receiver"]
CMD ["serve"]
