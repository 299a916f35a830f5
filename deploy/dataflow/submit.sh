#!/usr/bin/env bash
# Start the job on Dataflow.
#   submit.sh build                       register the Flex Template: image + metadata.json → TEMPLATE
#   submit.sh flex   name=value…          run the template; the names are those of metadata.json, e.g. qa_per_image=50
#   submit.sh direct [option…]            build the graph here and submit it; options as of `spatialvlm generate`
# It reads PROJECT, REGION, BUCKET and IMAGE from the environment, and where they are set TEMPLATE
# (gs://BUCKET/templates/spatialvlm.json), JOB_NAME (spatialvlm-DATE-TIME), SERVICE_ACCOUNT, MACHINE_TYPE and
# MAX_WORKERS. PRINT=1 shows the command instead of running it.
set -euo pipefail
cd "$(dirname "$0")/../.."

for name in PROJECT REGION BUCKET IMAGE; do
    if [ -z "${!name:-}" ]; then
        echo "submit.sh: $name is not set; e.g. $name=$(case $name in
            PROJECT) echo my-project ;; REGION) echo europe-west4 ;; BUCKET) echo my-bucket ;;
            IMAGE) echo europe-west4-docker.pkg.dev/my-project/spatialvlm/spatialvlm:1 ;; esac)" >&2
        exit 2
    fi
done
template=${TEMPLATE:-gs://$BUCKET/templates/spatialvlm.json}
job=${JOB_NAME:-spatialvlm-$(date -u +%Y%m%d-%H%M%S)}

run() { if [ -n "${PRINT:-}" ]; then printf '%q ' "$@"; echo; else exec "$@"; fi; }

what=${1:-}
[ $# -gt 0 ] && shift
case $what in
    build)
        run gcloud dataflow flex-template build "$template" --project="$PROJECT" --image="$IMAGE" \
            --sdk-language=PYTHON --metadata-file=deploy/dataflow/metadata.json
        ;;
    flex)
        # A delimiter of its own, because values hold commas.
        parameters="^~^sdk_container_image=$IMAGE"
        for pair in "$@"; do
            case $pair in
                *=*) parameters+="~$pair" ;;
                *) echo "submit.sh: $pair is not of the form name=value" >&2; exit 2 ;;
            esac
        done
        more=()
        [ -n "${SERVICE_ACCOUNT:-}" ] && more+=(--service-account-email="$SERVICE_ACCOUNT")
        [ -n "${MACHINE_TYPE:-}" ] && more+=(--worker-machine-type="$MACHINE_TYPE")
        [ -n "${MAX_WORKERS:-}" ] && more+=(--max-workers="$MAX_WORKERS")
        run gcloud dataflow flex-template run "$job" --project="$PROJECT" --region="$REGION" \
            --template-file-gcs-location="$template" --staging-location="gs://$BUCKET/staging" \
            --temp-location="gs://$BUCKET/tmp" "${more[@]}" --parameters="$parameters"
        ;;
    direct)
        more=()
        [ -n "${SERVICE_ACCOUNT:-}" ] && more+=(--service_account_email="$SERVICE_ACCOUNT")
        [ -n "${MACHINE_TYPE:-}" ] && more+=(--machine_type="$MACHINE_TYPE")
        [ -n "${MAX_WORKERS:-}" ] && more+=(--max_num_workers="$MAX_WORKERS")
        run "${PYTHON:-python}" -m beam_pipeline --runner=DataflowRunner --project="$PROJECT" --region="$REGION" \
            --job_name="$job" --temp_location="gs://$BUCKET/tmp" --sdk_container_image="$IMAGE" \
            --no-wait "${more[@]}" "$@"
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
