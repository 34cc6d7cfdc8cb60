#!/bin/sh
# Print a Python from 3.11 to 3.13 that can make environments, the newest first; else say what to install.
for candidate in python3.13 python3.12 python3.11 python3 python; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    if "$path" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        echo "$path"
        exit 0
    fi
done
echo "Fourways needs Python 3.11, 3.12 or 3.13 with its venv module (on Debian and Ubuntu also the package python3-venv); none was found." >&2
exit 1
