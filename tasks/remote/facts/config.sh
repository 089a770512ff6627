# The model's config.json.
. ./facts/enter_model.sh
cat config.json
