#!/usr/bin/env bash
# Runs a command with a container engine at hand: `tests/project/container.sh COMMAND...`.
#
# An ordinary docker or podman with a usable base image is taken as it is. Elsewhere (a Debian machine, as root: CI)
# podman is installed, kept in a scratch folder of its own, and given a base image made of Debian's packages.
# The command finds in its environment:
#   CONTAINER_ENGINE      docker or podman
#   CONTAINER_BASE_IMAGE  the BASE_IMAGE to build with
#   CONTAINER_BUILD_OPTIONS  words for `build`: how this machine's pip reaches its packages
set -euo pipefail
export LC_ALL=C.UTF-8

# Never inside the repository. Kept between runs, since the base image takes more than a minute; remove it as you like.
scratch=${CONTAINER_SCRATCH:-/var/tmp/imagegate-container}
packages=(conmon iptables mmdebstrap netavark podman runc)

say() { echo "container: $*" >&2; }

install_podman() {
    local missing
    missing=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -c ' installed$' || true)
    [ "$missing" -lt ${#packages[@]} ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no container engine works here: start docker or podman, or run this on Debian as root, which installs podman."
        exit 1
    fi
    say "installing ${packages[*]}"
    apt-get -qq update || say "some package lists could not be read; going on with the others"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${packages[@]}" </dev/null >/dev/null
}

# podman's own defaults presume systemd, and crun fails where control groups are of version 1.
configure_podman() {
    mkdir -p "$scratch"
    cat >"$scratch/containers.conf" <<CONF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
CONF
    cat >"$scratch/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$scratch/store"
runroot = "$scratch/run"
CONF
    export CONTAINERS_CONF="$scratch/containers.conf" CONTAINERS_STORAGE_CONF="$scratch/storage.conf"
    export TMPDIR="$scratch/tmp"
    mkdir -p "$TMPDIR"
}

# python:3.11-slim in all that the Dockerfile needs of it, from the mirror that this machine's apt uses.
make_base_image() {
    local uri release
    podman image exists "$CONTAINER_BASE_IMAGE" && return 0
    read -r uri release < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | grep -v -- '-updates$')
    say "making a base image of Debian $release"
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        --customize-hook='ln -s python3 "$1/usr/bin/python"' \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        "$release" - "deb $uri $release main" </dev/null | podman import --quiet - "$CONTAINER_BASE_IMAGE" >/dev/null
}

# The environment's word, else that of pip's configuration files.
pip_setting() {
    local variable=PIP_${1^^}
    variable=${variable//-/_}
    printf %s "${!variable:-$(python3 -m pip config get "global.$1" 2>/dev/null)}" | tr '\n' ' '
}

# Mounted while the image is built, so that nothing of this machine stays in it.
configure_pip() {
    local key value
    CONTAINER_BUILD_OPTIONS="--network host --volume $scratch/pip.conf:/etc/pip.conf:ro"
    echo "[global]" >"$scratch/pip.conf"
    for key in index-url extra-index-url trusted-host proxy timeout find-links cert; do
        value=$(pip_setting "$key")
        [ -n "$value" ] || continue
        echo "$key = $value" >>"$scratch/pip.conf"
        [ ! -e "$value" ] || CONTAINER_BUILD_OPTIONS+=" --volume $value:$value:ro"
    done
}

# Nothing is pulled here: docker does so itself when it builds, and podman is asked for what it has.
choose_engine() {
    local wanted=${CONTAINER_BASE_IMAGE:-python:3.11-slim}
    export CONTAINER_ENGINE CONTAINER_BASE_IMAGE=$wanted CONTAINER_BUILD_OPTIONS=""
    CONTAINER_ENGINE=docker
    docker info >/dev/null 2>&1 && return 0
    CONTAINER_ENGINE=podman
    podman image exists "$wanted" 2>/dev/null && return 0
    CONTAINER_BASE_IMAGE=localhost/imagegate-base:python3
    install_podman
    configure_podman
    configure_pip
    make_base_image
}

choose_engine
say "$CONTAINER_ENGINE, base image $CONTAINER_BASE_IMAGE"
exec "$@"
