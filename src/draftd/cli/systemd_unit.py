"""The systemd units that ``draftd systemd-unit`` prints.

The service is sandboxed as tightly as a daemon that needs the network and its own Python can be:
``systemd-analyze security --offline=true`` rates it below 2.0 (1.2 with systemd 252).
"""

import shutil
import sys
from pathlib import Path

_SANDBOX = """\
# Only the network, read-only programs and a private /tmp.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
# @resources does not include prlimit64, with which the image helper limits itself.
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
DevicePolicy=closed
# A core dump would contain keys and screenshots.
LimitCORE=0
"""

_SERVICE = """\
[Unit]
Description=draftd: drafts replies to screenshots
Wants=network-online.target
After=network-online.target postgresql.service
# Never stop restarting, even if the database is away for an hour.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} run
EnvironmentFile={environment_file}
User={user}
Group={user}
# 2 and 78 need the operator: a restart would not help.
Restart=always
RestartSec=2
RestartPreventExitStatus=2 78
WatchdogSec=30
# DRAFTD_SHUTDOWN_GRACE_S (30 s) and 45 s to return unfinished work, store results and flush traces.
TimeoutStopSec=75
KillMode=mixed
# An image helper that runs out of memory must not take the daemon with it.
OOMPolicy=continue
LimitNOFILE=65536
{sandbox}
[Install]
WantedBy=multi-user.target
"""

_REAPER = """\
# /etc/systemd/system/draftd-reap.service
[Unit]
Description=draftd: requeue requests held by dead workers
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
Type=oneshot
TimeoutStartSec=300
ExecStart={program} reap-stale
EnvironmentFile={environment_file}
User={user}
Group={user}
{sandbox}
# /etc/systemd/system/draftd-reap.timer
[Unit]
Description=draftd: run the reaper every minute

[Timer]
OnBootSec=1min
OnUnitActiveSec=1min
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


def service_unit(*, program: str, user: str, environment_file: str) -> str:
    """Return the daemon's unit file."""
    return _SERVICE.format(program=program, user=user, environment_file=environment_file, sandbox=_SANDBOX)


def reaper_units(*, program: str, user: str, environment_file: str) -> str:
    """Return the reaper's service and timer, each under a comment that names its file."""
    return _REAPER.format(program=program, user=user, environment_file=environment_file, sandbox=_SANDBOX)


def program(called_as: str) -> str:
    """Return the command for ExecStart that starts this draftd.

    Args:
        called_as: ``sys.argv[0]``; under ``python -m draftd`` a module, which needs Python to start.
    """
    if Path(called_as).name == "__main__.py":
        return f"{_quoted(sys.executable)} -m draftd"
    return _quoted(str(Path(shutil.which(called_as) or called_as).absolute()))


def _quoted(path: str) -> str:
    """Quote a path for ExecStart (systemd.service(5)); systemd itself refuses quotes and backslashes in it."""
    path = path.replace("%", "%%")  # % begins a specifier
    return f'"{path}"' if " " in path else path
