# shellcheck shell=bash
# What every job does first: activate the environment and define `run`. Adapt the first lines to your cluster.
#
# module load python/3.11 cuda
# source "$HOME/birdnet-fs/bin/activate"

export PYTHONUNBUFFERED=1
MARGIN_S=120 # time before the time limit at which a command is stopped

# requeue STATUS: put this job back into the queue, unless it was canceled (scancel, qdel) or SLURM has done so already.
requeue() {
    local job=${SLURM_JOB_ID-}
    if [[ -n ${SLURM_ARRAY_JOB_ID-} ]]; then # the number of the last task is that of the array, which is all of them
        job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    fi
    if [[ -n $job && $(scontrol --oneliner show job "$job") == *" JobState=RUNNING "* ]]; then
        echo "requeued after the signal; the same command goes on" >&2
        scontrol requeue "$job"
        sleep 60 # SLURM ends this script
    elif [[ -n ${PBS_JOBID-} && $1 == 138 ]]; then
        qrerun "$PBS_JOBID" || echo "qrerun is not permitted; submit the job again, the same command goes on" >&2
    fi
}

# run COMMAND...: run a command, pass signals on to it (`--signal=B:` and scancel reach only this shell), and put the
# job back into the queue when a signal has stopped it: SIGHUP, SIGUSR1, SIGUSR2, SIGTERM.
run() {
    local child status signaled timer=''
    for name in HUP USR1 USR2 TERM; do
        # shellcheck disable=SC2064  # the name is that of now
        trap "signaled=1; kill -$name \"\$child\" 2>/dev/null || true" "$name"
    done
    "$@" &
    child=$!
    if [[ -n ${LIMIT_S-} ]]; then # PBS sends no signal long enough before the time limit
        (
            trap 'kill $!' TERM
            sleep "$((LIMIT_S - MARGIN_S))" &
            wait $! && kill -USR1 $$
        ) &
        timer=$!
    fi
    while :; do
        signaled='' status=0
        wait "$child" || status=$?
        [[ -n $signaled ]] || break # otherwise the trap has ended `wait`, not the command
    done
    [[ -z $timer ]] || kill "$timer" 2>/dev/null || true
    case $status in
    129 | 138 | 140 | 143) requeue "$status" ;;
    esac
    return "$status"
}
