#!/usr/bin/env bash
# Start a custom job on Vertex AI and print its name; it does not wait.
#   submit.sh train | train_many | evaluate
# It reads from the environment PROJECT, REGION, BUCKET, IMAGE (built with EXTRAS=…,train), TRAINER (the account that the
# job runs as) and RUN (the data is gs://BUCKET/runs/RUN, the checkpoint gs://BUCKET/checkpoints/RUN). More arguments go
# to gcloud ai custom-jobs create, e.g. --labels=team=vision. PRINT=1 shows command and job instead of starting it.
set -euo pipefail
cd "$(dirname "$0")"

case ${1:-} in
    train | train_many | evaluate) what=$1 ;;
    *)
        sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
shift
for name in PROJECT REGION BUCKET IMAGE TRAINER RUN; do
    if [ -z "${!name:-}" ]; then
        echo "submit.sh: $name is not set; e.g. $name=$(case $name in
            PROJECT) echo my-project ;; REGION) echo europe-west4 ;; BUCKET) echo my-bucket ;;
            IMAGE) echo europe-west4-docker.pkg.dev/my-project/spatialvlm/spatialvlm:1-train ;;
            TRAINER) echo spatialvlm-trainer@my-project.iam.gserviceaccount.com ;; RUN) echo photos ;; esac)" >&2
        exit 2
    fi
    if [[ ${!name} == *[!A-Za-z0-9./:@=_-]* ]]; then
        echo "submit.sh: $name: ${!name} has a character other than letters, digits and ./:@=_-" >&2
        exit 2
    fi
done

job=$(mktemp --suffix=.yaml)
trap 'rm -f "$job"' EXIT
sed -e "s|\${IMAGE}|$IMAGE|g" -e "s|\${BUCKET}|$BUCKET|g" -e "s|\${RUN}|$RUN|g" -e "s|\${TRAINER}|$TRAINER|g" \
    "$what.yaml" >"$job"
run() {
    if [ -n "${PRINT:-}" ]; then
        printf '%q ' "$@"
        echo
        cat "$job"
    else
        "$@"
    fi
}
run gcloud ai custom-jobs create --project="$PROJECT" --region="$REGION" \
    --display-name="spatialvlm-$what-${RUN//[^A-Za-z0-9]/-}" --labels=app=spatialvlm --config="$job" "$@"
