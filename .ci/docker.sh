# A Docker daemon for the tests, where none answers. To be sourced: `. .ci/docker.sh`.
#
# Installs Docker from the system's own package source, starts the daemon by hand (there may be no
# systemd), and builds the base image `tpp-base` with debootstrap from that same source, because an
# image registry may be out of reach. Leaves TPP_IMAGE_BASE=tpp-base in the environment.
# Harmless to repeat: each part looks first and does nothing when its result is there.
# Needs root; returns non-zero (never exits the caller's shell) when Docker cannot be had.

tpp_docker_state="${TPP_DOCKER_STATE:-/var/tmp/tpp-docker}"

tpp_docker_say() { printf 'docker: %s\n' "$*" >&2; }

# Waits until a command succeeds: tpp_docker_wait SECONDS COMMAND…
tpp_docker_wait() {
    tpp_left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        tpp_left=$((tpp_left - 1))
        [ "$tpp_left" -gt 0 ] || return 1
        sleep 0.2
    done
}

tpp_docker_install() {
    tpp_missing=
    command -v dockerd >/dev/null 2>&1 || tpp_missing="$tpp_missing docker.io"
    command -v iptables >/dev/null 2>&1 || tpp_missing="$tpp_missing iptables"
    command -v debootstrap >/dev/null 2>&1 || tpp_missing="$tpp_missing debootstrap"
    [ -n "$tpp_missing" ] || return 0
    tpp_docker_say "installing$tpp_missing"
    apt-get update -qq >&2 || tpp_docker_say "apt-get update reported a problem; trying with what is there"
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $tpp_missing \
        >"$tpp_docker_state/install.log" 2>&1 || { tail -n 20 "$tpp_docker_state/install.log" >&2; return 1; }
}

# Removes a pid file unless its process lives and is the program named: tpp_docker_stale FILE NAME
tpp_docker_stale() {
    [ -f "$1" ] || return 0
    tpp_status="/proc/$(cat "$1")/status"
    if [ ! -f "$tpp_status" ] || ! grep -q "^Name:[[:space:]]*$2\$" "$tpp_status" \
            || grep -q '^State:[[:space:]]*[ZX]' "$tpp_status"; then
        rm -f "$1"
    fi
}

tpp_docker_start() {
    docker version >/dev/null 2>&1 && return 0
    tpp_docker_say "starting dockerd"
    # The pid files of daemons that were killed keep the next ones from starting; a killed daemon that
    # nobody reaped still answers `kill -0`, so its state is looked at.
    tpp_docker_stale /var/run/docker.pid dockerd
    tpp_docker_stale /var/run/docker/containerd/containerd.pid containerd
    setsid dockerd >"$tpp_docker_state/dockerd.log" 2>&1 </dev/null &
    tpp_docker_wait 60 docker version && return 0
    tpp_docker_say "dockerd did not answer; its last words:"
    tail -n 20 "$tpp_docker_state/dockerd.log" >&2
    return 1
}

tpp_docker_base() {
    docker image inspect tpp-base >/dev/null 2>&1 && return 0
    # The first main archive that apt itself uses: address and release are this machine's affair.
    tpp_source="$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' \
        | awk '$3 == "main" && $2 !~ /-(security|updates|backports)$/ { print $1, $2; exit }')"
    tpp_mirror="${tpp_source% *}"
    tpp_release="${tpp_source#* }"
    [ -n "$tpp_mirror" ] || { tpp_docker_say "apt names no package source"; return 1; }
    tpp_docker_say "building tpp-base ($tpp_release)"
    tpp_root="$(mktemp -d "$tpp_docker_state/base.XXXXXX")" || return 1
    tpp_ok=0
    if debootstrap --variant=minbase "$tpp_release" "$tpp_root" "$tpp_mirror" \
            >"$tpp_docker_state/debootstrap.log" 2>&1; then
        rm -rf "$tpp_root"/var/cache/apt/archives/*.deb "$tpp_root"/var/lib/apt/lists/*
        tar -C "$tpp_root" --one-file-system -c . \
            | docker import --change 'CMD ["/bin/bash"]' - tpp-base >/dev/null && tpp_ok=1
    else
        tail -n 20 "$tpp_docker_state/debootstrap.log" >&2
    fi
    rm -rf "$tpp_root"
    [ "$tpp_ok" = 1 ]
}

mkdir -p "$tpp_docker_state" \
    && { docker version >/dev/null 2>&1 && docker image inspect tpp-base >/dev/null 2>&1 \
        || { tpp_docker_install && tpp_docker_start && tpp_docker_base; }; } \
    && export TPP_IMAGE_BASE=tpp-base
