#!/bin/bash
# Train on several machines that are reached by ssh, started from any of them or from elsewhere:
#
#   deploy/scaling/ssh.sh HOST... -- fit DATA --out RUN [flags]
#
# On each machine the same Python environment (ENVIRONMENT) and the same folder to start from
# (FOLDER) exist. Only the first machine writes the run. Ctrl-C stops all of them after a step.
set -u

ENVIRONMENT=${ENVIRONMENT:-$PWD/.venv}
FOLDER=${FOLDER:-$PWD}
PROCESSES=${PROCESSES:-1}
PORT=${PORT:-29500}

HOSTS=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    HOSTS+=("$1")
    shift
done
shift
if [ ${#HOSTS[@]} -eq 0 ] || [ $# -eq 0 ]; then
    echo "usage: ssh.sh HOST... -- fit DATA [flags]" >&2
    exit 2
fi

LAUNCH=$(date +%s)
WORDS=$(printf ' %q' "$@")
STARTED=()
for HOST in "${HOSTS[@]}"; do
    # With a terminal, so that what ends ssh ends torchrun as well.
    ssh -tt "$HOST" "cd $(printf %q "$FOLDER") && exec $(printf %q "$ENVIRONMENT")/bin/torchrun \
        --nnodes ${#HOSTS[@]} --nproc-per-node $PROCESSES --max-restarts 3 \
        --rdzv-backend c10d --rdzv-id $LAUNCH --rdzv-endpoint ${HOSTS[0]#*@}:$PORT \
        --local-addr ${HOST#*@} -m sartor$WORDS" &
    STARTED+=($!)
done

trap 'kill -INT "${STARTED[@]}"' INT TERM
STATUS=0
for PROCESS in "${STARTED[@]}"; do
    wait "$PROCESS" || STATUS=$?
done
exit $STATUS
