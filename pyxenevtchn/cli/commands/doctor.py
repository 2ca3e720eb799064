"""xenevtchn doctor: why the device can or cannot be used."""

import json
import platform

import click

import pyxenevtchn

from ..options import device_option, examples
from ..output import bad, good, say
from .findings import Finding, examine


@click.command(epilog=examples("doctor", "--device fake: doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead.")
@device_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, device: str) -> None:
    """Check whether the device can be used, and what to do if not.

    It checks the kernel, Xen, the domain, the driver, the node and its permissions, and opens the
    device. It also tells whether the kernel supports BIND_STATIC, and which VIRQs this domain has
    bound. It changes no port. The exit status is 0 only if the device can be used.

    The object of --json, with each finding under its name; the hint is null if there is none:

    \b
    {"version": "1.0.0", "python": "CPython 3.11.2", "machine": "x86_64",
     "usable": true, "device": "/dev/xen/evtchn",
     "findings": {"xen": {"ok": true, "text": "...", "hint": null}, ...}}

    The version is that of pyxenevtchn. The names are kernel, xen, domain, driver, node, open,
    bind_static and ports, and device for a fake; those that are not known are left out.
    """  # noqa: D301 - click's mark of a paragraph not to wrap
    findings = list(examine(device))
    usable = any(finding.name == "open" and finding.ok for finding in findings)
    if as_json:
        found = {
            finding.name: {"ok": finding.ok, "text": finding.text, "hint": finding.hint}
            for finding in findings
        }
        about = {
            "version": pyxenevtchn.__version__,
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "machine": platform.machine(),
        }
        say(json.dumps({**about, "usable": usable, "device": device, "findings": found}))
    else:
        for finding in findings:
            _show(finding)
        say(good("The device can be used.") if usable else bad("The device cannot be used."))
    ctx.exit(0 if usable else 1)


def _show(finding: Finding) -> None:
    say(f"{good('ok   ') if finding.ok else bad('FAULT')}  {finding.name}: {finding.text}")
    if finding.hint:
        say(f"       Hint: {finding.hint}")
