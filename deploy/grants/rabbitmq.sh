#!/bin/sh
# Makes RabbitMQ's user `exporter`, who may use queues of his own and no others; can be run again at any time. The README, Rights,
# says what is lost without each right.
#
#   SIDECAR_PASSWORD=… rabbitmq.sh [-c] [-p VHOST]
#
#   -c   also what the Celery probe needs
#   -p   the virtual host; default /
#
# RABBITMQCTL is the command to give orders with, such as `docker compose exec -T rabbitmq rabbitmqctl`. It is told the password on
# its standard input, where the list of processes does not show it.
set -eu

usage() {
    echo 'usage: SIDECAR_PASSWORD=... rabbitmq.sh [-c] [-p VHOST]' >&2
    exit 2
}

ctl() { ${RABBITMQCTL:-rabbitmqctl} -q "$@"; }

is_there() { ctl list_users --no-table-headers | cut -f 1 | grep -qx exporter; }

write='^amq\.default$'
read='^exporter\.'
vhost=/
while getopts cp: option; do
    case $option in
    c)
        write='^(exporter\.|amq\.default$|celery\.pidbox$)'
        read='^(exporter\.|celeryev$)'
        ;;
    p) vhost=$OPTARG ;;
    *) usage ;;
    esac
done
if [ $# -ge "$OPTIND" ] || [ -z "${SIDECAR_PASSWORD:-}" ]; then usage; fi

if is_there; then word=change_password; else word=add_user; fi
printf '%s\n' "$SIDECAR_PASSWORD" | ctl "$word" exporter
ctl set_user_tags exporter
ctl set_permissions -p "$vhost" exporter '^exporter\.' "$write" "$read"
