"""The systemd units that ``draftd systemd-unit`` prints.

The service is sandboxed as far as a daemon can be that needs the network, its own Python and nothing else:
``systemd-analyze security --offline=true`` rates it below 2.0.
"""

import shutil
from pathlib import Path

_SANDBOX = """\
# Nothing but the network, read-only programs and a private /tmp.
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
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
DevicePolicy=closed
"""

_SERVICE = """\
[Unit]
Description=draftd: drafts replies to screenshots
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} run
EnvironmentFile={environment_file}
User={user}
Group={user}
# 2 and 78 are for the operator to mend: starting again would not help.
Restart=always
RestartSec=2
RestartPreventExitStatus=2 78
WatchdogSec=30
# The drain's grace (DRAFTD_SHUTDOWN_GRACE_S, 30 s), the release of what is left, and the flush of traces.
TimeoutStopSec=60
KillMode=mixed
{sandbox}
[Install]
WantedBy=multi-user.target
"""

_REAPER = """\
# /etc/systemd/system/draftd-reap.service
[Unit]
Description=draftd: takes back what dead workers held

[Service]
Type=oneshot
ExecStart={program} reap-stale
EnvironmentFile={environment_file}
User={user}
Group={user}
{sandbox}
# /etc/systemd/system/draftd-reap.timer
[Unit]
Description=draftd: the reaper, every minute

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
    """Return the reaper's service and timer, one after the other, each under a comment that names its file."""
    return _REAPER.format(program=program, user=user, environment_file=environment_file, sandbox=_SANDBOX)


def program(called_as: str) -> str:
    """Return the absolute path of the draftd that is running, for ExecStart."""
    found = shutil.which(called_as) or called_as
    return str(Path(found).absolute())
