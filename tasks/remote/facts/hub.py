"""Where this python finds a model of Hugging Face's hub (argv), in this environment.

Ends with 3 where it is not in its cache, with 4 where it has no huggingface_hub.
"""

import sys

try:
    from huggingface_hub import snapshot_download
except ImportError:
    sys.exit(4)
try:
    print(snapshot_download(sys.argv[1], local_files_only=True))
except Exception:  # what is no name of a model, too
    sys.exit(3)
