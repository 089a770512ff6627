# Where Hugging Face's cache is, in the order of huggingface_hub's constants.py: for what has no
# python to ask, or not the time.
. ./paths.sh
hub_cache() {
  at_hub=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}
  at_hub=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$at_hub/hub}}
  resolve at_hub
  printf '%s\n' "$at_hub"
}
