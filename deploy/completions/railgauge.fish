# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_railgauge_global_optspecs
    string join \n h/help V/version
end

function __fish_railgauge_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_railgauge_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_railgauge_using_subcommand
    set -l cmd (__fish_railgauge_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c railgauge -n "__fish_railgauge_needs_command" -s h -l help -d 'Print help'
complete -c railgauge -n "__fish_railgauge_needs_command" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "ping" -d 'Measure one path now; TARGET is any `railgauge reflect` or STAMP reflector (RFC 8762)'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "reflect" -d 'Answer probes'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "inventory" -d 'What this node is, and what can be measured on it'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "demo" -d 'A small fabric on this machine: start, probe, sweep, report, stop'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "nodes" -d 'The fleet\'s nodes, as the coordinator knows them'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "paths" -d 'The fleet\'s paths over the last while, worst first'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "sweep" -d 'Measure the fleet now, every node with every other, and judge it'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "keys" -d 'The keys of the fleet\'s probes'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "report" -d 'The HTML report of a saved sweep'
complete -c railgauge -n "__fish_railgauge_needs_command" -f -a "certs" -d 'A development authority, and certificates for daemons and people'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l transport -d 'What carries the probes' -r -f -a "udp\t'STAMP datagrams: loss shows as loss'
tcp\t'STAMP packets over a connection: loss shows as delay'
rdma-ud\t'STAMP packets in RDMA datagrams: loss shows as loss'
rdma-rc\t'Operations on an RDMA connection: loss shows as delay'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l interval -d 'Time between intended sends, from 1us to 1h; rdma-rc: 0 for a closed loop, as perftest\'s' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l duration -d 'How long to measure, after the warm-up, from 1ms to 30d [default: 10s]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l count -d 'How many probes to send, instead of a duration' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l timeout -d 'A probe without a reply this long after it left is lost, from 1ms to 60s' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l warmup -d 'Probes before those that count; discarded' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l size -d 'Least octets of payload; STAMP packets are never smaller than STAMP and its telemetry, 72 octets [default: 44; rdma-rc: 2, write-bw and read-bw: 64KiB]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l cpu -d 'Pin the probe thread to this CPU [default: where it starts]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l device -d 'Pin the probe thread to the NUMA node of this network or RDMA device; rdma-ud and rdma-rc: probe through it (mlx5_0, mlx5_0/1)' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l op -d 'What an RDMA connection is asked to do [default: write]' -r -f -a "write\t'A write, answered by a write'
send\t'A send, answered by a send'
read\t'A read, which the other side\'s device answers'
atomic\t'An atomic on 8 octets, which the other side\'s device answers'
write-bw\t'How much can be written'
read-bw\t'How much can be read'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l completion -d 'How the end of an RDMA write is seen [default: auto]' -r -f -a "auto\t'By memory with --busy-poll where both devices promise to write it in order, else by immediate data'
memory\t'By its last octet in memory, whether or not that is promised'
imm\t'By immediate data'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l profile -d 'Time-outs and retries of an RDMA connection [default: continuous]' -r -f -a "continuous\t'Time-out 14, retries 7, not-ready retries 6: a dead path is an error after seconds'
nccl\t'What NCCL sets: time-out 20, retries 7, not-ready retries 7'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l depth -d 'Operations outstanding, for write-bw and read-bw [default: 128]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l source -d 'Send from this address' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l dscp -d 'Differentiated services code point, 0 to 63; the reply comes back in the same class' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l ttl -d 'TTL or hop limit' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l flows -d 'Source ports that take turns, so that ECMP spreads the probes over paths' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l ssid -d 'STAMP session identifier (RFC 8972), 0 for none' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l timestamp-format -d 'Format of our timestamps in packets' -r -f -a "ntp\t'32 bits of seconds, 32 of fraction'
ptp\t'32 bits of seconds, 32 of nanoseconds'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l auth-key-file -d 'File with a key in hexadecimal, as `openssl rand -hex 32` makes one: authenticated STAMP (HMAC-SHA-256)' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l hlog -d 'Write an HdrHistogram interval log, 1 s intervals' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l samples -d 'Write every sample as CSV (kept in memory until the end)' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l fail-if -d 'Exit with 1 when this holds: p99>50us, network_rtt.p99.9>1ms, max>10ms, loss>0.1%; app_rtt unless a series is named' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l bare -d 'Send the base packet alone, without telemetry TLVs: the network RTT is then an upper bound'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -l busy-poll -d 'Spin instead of sleeping: one core, the least delay'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -s 4 -d 'IPv4 only'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -s 6 -d 'IPv6 only'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand ping" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l transport -d 'What carries the probes' -r -f -a "udp\t'STAMP datagrams: loss shows as loss'
tcp\t'STAMP packets over a connection: loss shows as delay'
rdma-ud\t'STAMP packets in RDMA datagrams: loss shows as loss'
rdma-rc\t'Operations on an RDMA connection: loss shows as delay'"
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l device -d 'RDMA device to answer through (mlx5_0, mlx5_0/1) [default: the only one]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l listen -d 'Where to listen, ADDR:PORT, repeatable [default: every address, port 862, or 7463 without the privilege; tcp, rdma-ud, rdma-rc: 7463]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l cpu -d 'Pin the responder thread to this CPU' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l max-rate -d 'Replies per second and source address, bursts of up to 1,000; 0 for no bound' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l auth-key-file -d 'File with keys in hexadecimal, one a line: answer only authenticated requests made with one of them' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l output -d 'How to print the totals at the end' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -l busy-poll -d 'Spin instead of sleeping: one core, the least delay'
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand reflect" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand inventory" -l sysfs-root -d 'Read this tree instead of /sys, as one recorded on another machine' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand inventory" -l procfs-root -d 'Read this tree instead of /proc' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand inventory" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand inventory" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand inventory" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l nodes -d 'Nodes, from 2 to 64' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l duration -d 'How long the nodes probe each other before the sweep, from 1s to 1h' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l fault -d 'Something to be wrong from outside: slow-host, delay, loss, dead, frozen or random, at a node\'s number or random, as delay@3' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l out -d 'Where sweep.json, report.html and logs go' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l seed -d 'For repeating what was left to chance' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand demo" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand nodes" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l since -d 'How far back, from 1s to 30d' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l nodes -d 'Only paths with such a node at either end: name globs or label=value, with commas between' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l worst -d 'How many paths the table has' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand paths" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l suite -d 'What to measure' -r -f -a "quick\t'A first look: every path over sockets, with probes enough for p99'
sockets\t'Every path over sockets, with probes enough for p99.9'
rdma\t'Every path over reliable connections of RDMA devices, by one-sided reads, with probes enough for p99'"
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l nodes -d 'Only among these nodes: name globs or label=value, with commas between [default: all]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l rounds -d 'At most so many rounds [default: all]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l expect -d 'Names of nodes that should be there, one a line, # begins a comment: absent ones are in the result as unknown' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l report -d 'Write the HTML report, one self-contained file' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l save -d 'Write the object, for --diff and `railgauge report`' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l diff -d 'Compare with an earlier sweep that was saved' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l dry-run -d 'Say what the sweep would take, and stop'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -l detach -d 'Start it and leave: `railgauge sweep show ID` has the result'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -f -a "show" -d 'The result of a sweep that is over'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -f -a "list" -d 'The sweeps that the coordinator knows'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and not __fish_seen_subcommand_from show list cancel" -f -a "cancel" -d 'End a sweep that runs'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l report -d 'Write the HTML report, one self-contained file' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l save -d 'Write the object, for --diff and `railgauge report`' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l diff -d 'Compare with an earlier sweep that was saved' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -l all -d 'All that run'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand sweep; and __fish_seen_subcommand_from cancel" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and not __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and not __fish_seen_subcommand_from rotate" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and not __fish_seen_subcommand_from rotate" -f -a "rotate" -d 'Give all nodes new keys now, without a lost probe'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l coordinator -d 'Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l ca -d 'Certificates of the authorities that vouch for the coordinator, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l cert -d 'Your certificate, PEM' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l key -d 'Its key, PEM, readable by you alone' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l withdraw -d 'Withdraw the old keys at the end, whoever may still use them: for a key that has leaked; the probes of nodes out of reach are lost until they are back'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand keys; and __fish_seen_subcommand_from rotate" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand report" -l out -d 'Where the page goes [default: standard output]' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand report" -s h -l help -d 'Print help'
complete -c railgauge -n "__fish_railgauge_using_subcommand report" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and not __fish_seen_subcommand_from init issue show" -s h -l help -d 'Print help'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and not __fish_seen_subcommand_from init issue show" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and not __fish_seen_subcommand_from init issue show" -f -a "init" -d 'Make an authority'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and not __fish_seen_subcommand_from init issue show" -f -a "issue" -d 'Make a certificate and its key'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and not __fish_seen_subcommand_from init issue show" -f -a "show" -d 'Whose certificates these are, and until when'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -l dir -d 'Where ca.pem and ca.key go' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -l trust-domain -d 'Within which identities mean something, as the cluster\'s domain' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -l days -d 'How long it vouches' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from init" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -l dir -d 'Where the authority is, and where ROLE-NAME.pem and ROLE-NAME.key go' -r -F
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -l host -d 'A host name or address under which a daemon is reached, repeatable [default: those of the one that is replaced; else localhost, 127.0.0.1, ::1, and an agent\'s NAME]' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -l days -d 'How long it is good' -r
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -l replace -d 'Put it in place of the one there, as daemons that read it again while they run want it'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from issue" -s V -l version -d 'Print version'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from show" -l output -d 'How to print the result' -r -f -a "table\t'For people'
json\t'For programs: one object'"
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c railgauge -n "__fish_railgauge_using_subcommand certs; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
