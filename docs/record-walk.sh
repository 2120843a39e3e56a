#!/bin/bash
# Records docs/walk.md anew with tmux and the batchrunner of .venv: bash docs/record-walk.sh
# The texts around the recording stay as they are; tests/test_walk.py compares it with what the program says.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
home=$(mktemp -d)
tmux=(tmux -L batchrunner-walk -f /dev/null)
trap '"${tmux[@]}" kill-server 2>/dev/null || true; rm -rf "$home"' EXIT

screen() { "${tmux[@]}" capture-pane -t walk -p | sed -e 's/ *$//' -e "s#$home#/home/me#" | sed -e '/./,$!d'; }
typed() { "${tmux[@]}" send-keys -t walk -l "$1" && "${tmux[@]}" send-keys -t walk Enter; }
wait_for() { # until the last line on the screen matches $1, at most a minute
  for _ in $(seq 300); do
    sleep 0.2
    if screen | grep -v '^$' | tail -n 1 | grep -qE "$1"; then return; fi
  done
  echo "no '$1' came:" >&2; screen >&2; exit 1
}
run() { typed "$1"; wait_for '^\$$'; }

"${tmux[@]}" new-session -d -s walk -x 112 -y 200 -c "$home" \
  "env -i HOME=$home PATH=$root/.venv/bin:/usr/bin:/bin TERM=screen LANG=C.UTF-8 PS1='\$ ' bash --norc --noprofile"
wait_for '^\$$'
run 'for i in {1..40}; do echo "\"What is $i times $i?\""; done > squares.jsonl'
run "echo '{\"id\": \"proof\", \"prompt\": \"[[sim:truncate]] Prove that no square ends in 7.\"}' >> squares.jsonl"
run "echo '{\"id\": \"riddle\", \"prompt\": \"[[sim:529*1]] Which square is a prime?\"}' >> squares.jsonl"
typed "batchrunner run squares.jsonl --model claude-haiku-4-5 -j 4 --simulate-with 'latency=1..2'"
wait_for ' 1[0-9]/42 '
"${tmux[@]}" send-keys -t walk C-c
wait_for '^\$$'
run 'echo $?'
run 'batchrunner status squares.jsonl'
run 'batchrunner resume squares.jsonl'
run 'batchrunner errors squares.jsonl'
run 'batchrunner retry squares.jsonl --class truncated --accept truncated --yes'
run 'batchrunner export squares.jsonl -o squares.csv'
run "cut -d, -f 1-6,11 squares.csv | sed -n '1,3p;41,43p'"

screen | sed -e '$!b' -e '/^\$$/d' | sed -e '/^$/{N;/^\n$/D}' > "$home/recorded"
sed -i -e '${/^$/d}' "$home/recorded"
sed -i -e '${/^\$$/d}' "$home/recorded"
python3 - "$root/docs/walk.md" "$home/recorded" "$(date -u '+%-d %B %Y')" <<'PYTHON'
import re
import sys
from pathlib import Path

page, recorded, day = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8"), sys.argv[3]
text = page.read_text(encoding="utf-8")
text = re.sub(r"```console\n.*?```", lambda _: f"```console\n{recorded}```", text, count=1, flags=re.DOTALL)
page.write_text(re.sub(r"on \d+ \w+ \d{4}", f"on {day}", text, count=1), encoding="utf-8")
PYTHON
