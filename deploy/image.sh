#!/usr/bin/env bash
# Runs the Dockerfile's own steps where there is no container engine, and measures what they make.
#
#   deploy/image.sh            as root, about two minutes; needs debootstrap, and 1.5 GB in $TMPDIR while it runs
#   deploy/image.sh --steps    prints the steps as they are understood, with their lines, and does nothing
#
# Each FROM is a copy of a clean Debian folder, which stands for the base image: that one is not fetched, and the output says
# so. Each RUN is a chroot without a network. In the end the image's command runs as the image's user on a read-only root.
#
# SUITE    release of Debian; trixie, of which the base image is made too, has the same Python
# MIRROR   where Debian comes from; by default where this machine's apt gets it
# PYTHON   whose pip fetches the packages, with this machine's configuration of pip; by default that of .venv, else python3
# AFTER    seconds until memory is looked at; 30
# DATABASE_URL, REDIS_URL, RABBITMQ_URL    what the running exporter probes; by default a closed port
set -euo pipefail
export LC_ALL=C

source=$(cd "$(dirname "$0")/.." && pwd)
known='ARG FROM ENV RUN COPY USER WORKDIR EXPOSE HEALTHCHECK ENTRYPOINT CMD'
limit_seconds=900
wanted_ms=1000
starts=5
after=${AFTER:-30}

say() { printf 'image: %s\n' "$*" >&2; }

stop() {
    say "$*"
    exit 2
}

# -- the Dockerfile --------------------------------------------------------------------------------------------------

# One step a line, `LINE WORD REST`, with continued lines joined; refuses what `step` would not do as Docker does.
steps() {
    awk -v known="$known" '
        function refuse(why) { printf "image: Dockerfile:%d: %s\n", line, why >"/dev/stderr"; exit 2 }
        /^[ \t]*#/ { next }
        !/[^ \t]/ { next }
        !continued { line = NR; text = "" }
        { sub(/^[ \t]+/, ""); continued = sub(/\\[ \t]*$/, ""); text = text $0 }
        continued { next }
        {
            word = text; sub(/[ \t].*/, "", word)
            rest = text; sub(/^[^ \t]+[ \t]*/, "", rest)
            if (index(" " known " ", " " word " ") == 0) refuse(word " is not known to deploy/image.sh")
            if (rest ~ /^--/ && word rest !~ /^(COPY--from=|HEALTHCHECK--)/) refuse("options of " word " are not known to deploy/image.sh")
            if (rest ~ /<</) refuse("here-documents are not known to deploy/image.sh")
            if (word ~ /^(ENTRYPOINT|CMD)$/ && rest !~ /^\[/) refuse(word " wants the form with brackets: no shell may stand before us")
            if (word == "HEALTHCHECK" && rest !~ /CMD \[/) refuse("HEALTHCHECK wants CMD and the form with brackets")
            if (word == "ENV" && rest !~ /^[A-Z_]+=/) refuse("ENV wants NAME=value")
            if (word == "FROM") { staged = 1; moved = 0 }
            if (word == "USER" || word == "WORKDIR") moved = 1
            if (word == "ARG" && staged) refuse("ARG after FROM is not known to deploy/image.sh")
            if (word == "RUN" && moved) refuse("RUN after USER or WORKDIR is not known to deploy/image.sh: it runs as root, in /")
            print line, word, rest
        }
    ' "$source/Dockerfile"
}

step() {
    local word=$1 rest=$2
    say "$word $rest"
    case $word in
    ARG) printf 'export %s\n' "$rest" >>"$work/arguments" ;;
    FROM) from "$rest" ;;
    ENV) printf 'export %s\n' "$rest" >>"$root.env" ;; # Docker expands and quotes it as a shell does
    RUN) build "$rest" ;;
    COPY) copy "$rest" ;;
    USER) user=$rest ;;
    WORKDIR) workdir=$rest && mkdir -p "$root$rest" ;;
    EXPOSE) ;; # says something to people; nothing is opened by it
    HEALTHCHECK) listed check "${rest#*CMD }" ;;
    ENTRYPOINT) listed entrypoint "$rest" ;;
    CMD) listed command "$rest" ;;
    esac
}

# `listed NAME '["a", "b"]'` sets an array: a JSON list of plain strings is a list of shell words but for its punctuation.
listed() { eval "$1=(${2//[\[\],]/ })"; }

from() {
    # shellcheck source=/dev/null
    image=$(. "$work/arguments" && eval "printf '%s' \"${1%% *}\"")
    case $1 in *' AS '*) root=$work/${1##* } ;; *) root=$work/image ;; esac
    user='' workdir=/ entrypoint=() command=() check=()
    cp -a "$work/base" "$root"
    mount_system
    mount --bind "$work/packages" "$root/mnt"
    printf 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8\n' >"$root.env"
}

# What every container has.
mount_system() {
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
}

build() {
    # shellcheck disable=SC2016  # expanded there, with the image's environment
    quietly env -i bash -c '. "$1"; export PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt; exec unshare --net chroot "$2" /bin/sh -c "$3"' \
        bash "$root.env" "$root" "$1"
}

copy() {
    local words from=$work/context target
    read -ra words <<<"$1"
    if [[ ${words[0]} == --from=* ]]; then from=$work/${words[0]#--from=} && words=("${words[@]:1}"); fi
    target=$root${words[-1]}
    unset 'words[-1]'
    case $target in */) mkdir -p "$target" ;; *) mkdir -p "$(dirname "$target")" ;; esac
    for path in "${words[@]}"; do
        if [ -d "$from/$path" ]; then cp -a "$from/$path/." "$target"; else cp -a "$from/$path" "$target"; fi
    done
}

# -- what is there before the first step -----------------------------------------------------------------------------

# Runs a command and shows of what it says the end, and only if it fails.
quietly() {
    "$@" >"$work/log" 2>&1 </dev/null || {
        say 'that failed:'
        tail -n 5 "$work/log" >&2
        return 1
    }
}

own_mirror() {
    # shellcheck source=/dev/null
    { . /etc/os-release && apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Origin: Debian' \
        "Codename: ${VERSION_CODENAME:-}"; } 2>/dev/null | sed -n 1p || true
}

in_base() { chroot "$work/base" python3 -c "$1"; }

make_base() {
    say "making the base: Debian $suite"
    quietly debootstrap --variant=minbase --include=python3-venv,python-is-python3,ca-certificates "$suite" "$work/base" "$mirror"
    rm -rf "$work/base"/var/cache/apt/archives/*.deb "$work/base"/var/lib/apt/lists/*
    base_python=$(in_base 'import platform; print(platform.python_version())')
}

# What .dockerignore lets through. Its lines are `*`, then `!path`, then `**/name`.
make_context() {
    mkdir "$work/context"
    (cd "$source" && sed -n 's/^!//p' .dockerignore | xargs cp -r --parents -t "$work/context")
    sed -n 's|^\*\*/||p' "$source/.dockerignore" | while read -r name; do
        find "$work/context" -name "$name" -prune -exec rm -r {} +
    done
}

# By this machine's pip, whose configuration knows an index; the steps then find all in one folder, and no network.
# What has a condition (`; python_full_version < '3.11.3'`) is fetched too: pip would judge it by the Python that it runs on.
fetch_packages() {
    local pip=("${PYTHON:-$(command -v "$source/.venv/bin/python" python3 | head -n 1)}" -m pip)
    say "fetching packages for Python $base_python"
    sed 's/ ;[^\\]*//' "$source/deploy/requirements.txt" >"$work/pinned.txt"
    in_base 'import sys, tomllib; print(*tomllib.loads(sys.stdin.read())["build-system"]["requires"], sep="\n")' \
        <"$source/pyproject.toml" >"$work/build.txt"
    for requirements in "$work/pinned.txt" "$work/build.txt"; do
        quietly "${pip[@]}" download --only-binary :all: --python-version "${base_python%.*}" -d "$work/packages" -r "$requirements"
    done
}

# -- what comes out --------------------------------------------------------------------------------------------------

figure() { printf '%-8s %s\n' "$1" "$2"; }

# `holds WHAT CONDITION…`: says so where it does not, and goes on.
holds() {
    local what=$1
    shift
    if ! "$@"; then say "not so: $what" && failed=1; fi
}

mebibytes() { du -smx "$1" | cut -f 1; }

seal() {
    umount -R "$root/dev" "$root/proc" "$root/mnt"
    mount --bind "$root" "$root"
    mount_system
    mount -o remount,bind,ro "$root"
    port=$(chroot "$root" python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    {
        printf 'export EXPORTER_LISTEN=127.0.0.1:%s\n' "$port"
        printf 'export DATABASE_URL=%q REDIS_URL=%q RABBITMQ_URL=%q\n' "${DATABASE_URL:-postgresql://app@127.0.0.1:1/app}" \
            "${REDIS_URL:-redis://127.0.0.1:1/0}" "${RABBITMQ_URL:-amqp://127.0.0.1:1/}"
    } >"$work/run.env"
}

# Becomes a command in the image: its user, its environment, its folder, no capability and no way to get one.
contained() {
    # shellcheck disable=SC2016  # expanded there, with the image's environment
    exec env -i bash -c '. "$1"; . "$2"; shift 2; exec chroot "$@"' bash "$root.env" "$work/run.env" \
        "$root" env --chdir="$workdir" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \
        --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
}

# Whether the running exporter answers a path with 200.
answers() {
    local status
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
    read -r -t 2 status <&3 || status=''
    exec 3>&-
    [[ $status == 'HTTP/1.'?' 200 '* ]]
}

now_ms() { printf '%s' $((${EPOCHREALTIME/./} / 1000)); }

# Starts the image's command; `took_ms` is the time to the first good answer.
launch() {
    local began
    began=$(now_ms)
    contained "${entrypoint[@]}" "${command[@]}" >"$work/said" 2>&1 </dev/null &
    pid=$!
    until answers /livez; do
        if ! kill -0 "$pid" 2>/dev/null || (($(now_ms) - began > 20000)); then
            tail -n 5 "$work/said" >&2
            stop 'the exporter did not answer /livez within 20 s'
        fi
        sleep 0.005
    done
    took_ms=$(($(now_ms) - began))
}

end() {
    local began
    began=$(now_ms)
    kill "$pid"
    ended=0
    wait "$pid" || ended=$?
    end_ms=$(($(now_ms) - began))
}

measure_start() {
    local i took=()
    for ((i = 0; i < starts; i++)); do
        launch
        took+=("$took_ms")
        end
    done
    # shellcheck disable=SC2207  # numbers
    took=($(printf '%s\n' "${took[@]}" | sort -n))
    figure start "${took[starts / 2]} ms to the first /livez, median of $starts (${took[0]} to ${took[-1]} ms); wanted: $wanted_ms ms"
    figure machine "$(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg)"
    holds "the first /livez within $wanted_ms ms" test "${took[starts / 2]}" -le "$wanted_ms"
}

of_process() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }

root_options() { awk '$2 == "/" { split($4, options, ","); print options[1] }' "/proc/$pid/mounts"; }

# Milliseconds of processor time so far; the kernel counts in hundredths of a second (proc(5)).
busy_ms() { awk '{ sub(/.*\) /, ""); print ($12 + $13) * 10 }' "/proc/$pid/stat"; }

measure_running() {
    local began path status=0 busy
    launch
    busy=$(busy_ms)
    sleep "$after"
    figure memory "$(($(of_process VmRSS) / 1024)) MiB resident after $after s, $(($(of_process VmHWM) / 1024)) MiB at most"
    figure work "$(($(busy_ms) - busy)) ms of processor time in the $after s after the start, $(of_process Threads) threads"
    figure user "uid $(of_process Uid), gid $(of_process Gid), capabilities $(of_process CapEff), no new privileges $(of_process NoNewPrivs)"
    holds "uid ${user%:*}" test "$(of_process Uid)" = "${user%:*}"
    holds 'a user that is not root' test "$(of_process Uid)" -gt 0
    figure root "$(root_options); in its own home: $(contained touch trace 2>&1 || true)"
    holds 'a read-only root' test "$(root_options)" = ro
    for path in /livez /readyz /startupz; do holds "$path answers 200" answers "$path"; done
    began=$(now_ms)
    (contained "${check[@]}" >/dev/null 2>&1) || status=$?
    figure check "HEALTHCHECK exits with $status after $(($(now_ms) - began)) ms"
    holds 'a good HEALTHCHECK' test "$status" = 0
    end
    figure end "exits with $ended $end_ms ms after SIGTERM"
    holds 'a good end' test "$ended" = 0
}

# -- inside and outside ----------------------------------------------------------------------------------------------

inside() {
    local word rest
    work=$1 suite=$2 mirror=$3 failed=0
    mkdir "$work/packages"
    : >"$work/arguments"
    make_base
    make_context
    fetch_packages
    while read -r _ word rest <&4; do step "$word" "$rest"; done 4<"$work/steps"
    figure base "Debian $suite with Python $base_python stands for $image, which was not fetched"
    [[ $user =~ ^[0-9]+:[0-9]+$ ]] || stop "USER is '$user'; Kubernetes checks runAsNonRoot by numbers, UID:GID"
    seal
    figure size "$(mebibytes "$root") MiB, of which base $(mebibytes "$work/base") MiB, /opt/exporter $(mebibytes "$root/opt/exporter") MiB"
    measure_start
    measure_running
    exit "$failed"
}

# Ends what runs and removes what was written. What is mounted and started lives in namespaces, and goes with the first
# process of them, however that ends.
clear_up() {
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || true
        wait "$child" || true
    fi
    rm -rf --one-file-system "$work"
}

outside() {
    local program mirror status=0
    [ "$(id -u)" = 0 ] || stop 'only root can make a root folder and mount it; run it as root'
    for program in debootstrap unshare chroot timeout awk; do
        command -v "$program" >/dev/null ||
            stop "$program is missing; as root: apt-get update && apt-get install -y --no-install-recommends debootstrap util-linux mawk"
    done
    mirror=${MIRROR:-$(own_mirror)}
    [ -n "$mirror" ] || stop "no Debian mirror in this machine's apt sources; set MIRROR to the URL of one"
    child=''
    work=$(mktemp -d "${TMPDIR:-/tmp}/exporter-image.XXXXXX")
    trap clear_up EXIT
    trap 'exit 130' INT TERM HUP
    steps >"$work/steps"
    # unshare does not end on SIGTERM, so timeout's SIGKILL a second later does it
    timeout --kill-after=1 "$limit_seconds" unshare --mount --pid --mount-proc --kill-child \
        "$0" --inside "$work" "${SUITE:-trixie}" "$mirror" &
    child=$!
    wait "$child" || status=$?
    child=''
    case $status in 124 | 137) say "not done within $limit_seconds s" ;; esac
    exit "$status"
}

case $# in
0) outside ;;
1) if [ "$1" = --steps ]; then steps; else stop 'usage: deploy/image.sh [--steps]'; fi ;;
*) if [ "$1" = --inside ]; then inside "${@:2}"; else stop 'usage: deploy/image.sh [--steps]'; fi ;;
esac
