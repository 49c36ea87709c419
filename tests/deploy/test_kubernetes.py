"""The manifests for Kubernetes match their schemas and keep their promises."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
ROLES = ("learner", "distiller", "actor")
VERSION = "1.32"


def rendered(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here to render the manifests")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


MANIFESTS = [*sorted(KUBERNETES.glob("base/*.yaml")), KUBERNETES / "volumes.yaml"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_matches_its_schema(path: Path) -> None:
    import kubernetes_validate

    if path.stem == "kustomization":
        return
    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/autoscaling"])
def test_rendered_manifests_match_their_schemas(folder: str) -> None:
    import kubernetes_validate

    manifests = rendered(KUBERNETES / folder)
    for manifest in manifests:
        if not manifest["apiVersion"].startswith("keda.sh"):  # not part of Kubernetes
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    learner = by_name["Job", "learner"]["spec"]["template"]["spec"]["containers"][0]
    assert (learner["resources"]["limits"].get("nvidia.com/gpu") == "1") is (folder == "overlays/gpu")
    assert (("ScaledObject", "actor") in by_name) is (folder == "overlays/autoscaling")
    scaled = folder == "overlays/autoscaling"
    actor = by_name["Deployment" if scaled else "Job", "actor"]["spec"]
    assert "replicas" not in actor, "KEDA alone sets the number, and applying again must not override it"
    assert ("parallelism" in actor) is not scaled
    named = {key for kind, key in by_name if kind == "ConfigMap"}
    for (kind, name), manifest in by_name.items():
        if kind in ("Deployment", "Job"):
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            assert {source["configMapRef"]["name"] for source in container["envFrom"]} == named, f"{name} knows its run"


def test_images_can_come_from_another_registry(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(KUBERNETES / 'overlays/gpu', tmp_path)}]\n"
        "images:\n- {name: bidist, newName: here/bidist, newTag: '1'}\n"
        "- {name: bidist-cuda, newName: here/bidist-cuda, newTag: '1'}\n"
    )
    images = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]["containers"][0]["image"]
        for m in rendered(tmp_path)
        if m["kind"] in ("StatefulSet", "Job")
    }
    roles = {"actor": "here/bidist:1", "distiller": "here/bidist:1", "learner": "here/bidist-cuda:1"}
    assert images == roles | {"redis": "redis:7-bookworm"}


def test_every_pod_is_locked_down_and_has_probes() -> None:
    found = 0
    for path in KUBERNETES.glob("base/*.yaml"):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["kind"] not in ("StatefulSet", "Job"):
                continue
            pod = manifest["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["readinessProbe"] and container["livenessProbe"]
            assert container["resources"]["limits"]["memory"]
            found += 1
    assert found == 4


@pytest.mark.parametrize("name", ROLES)
def test_a_finished_run_is_over_in_kubernetes_and_a_stopped_one_is_not(name: str) -> None:
    manifests = yaml.safe_load_all((KUBERNETES / "base" / f"{name}.yaml").read_text())
    (job,) = (manifest["spec"] for manifest in manifests if manifest["kind"] == "Job")
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "OnFailure"
    assert "--stopped-status=143" in pod["containers"][0]["args"], "an evicted role has not finished"
    assert job["backoffLimit"] == 2**31 - 1, "a run of several days must not be given up"
    assert name == "actor" or job["podReplacementPolicy"] == "Failed", "two would share a volume"


def test_taking_a_run_down_leaves_the_volumes_that_it_uses() -> None:
    claims = {claim["metadata"]["name"] for claim in yaml.safe_load_all((KUBERNETES / "volumes.yaml").read_text())}
    used = set()
    for manifest in (m for path in MANIFESTS[:-1] for m in yaml.safe_load_all(path.read_text())):
        assert manifest["kind"] != "PersistentVolumeClaim"
        volumes = manifest["spec"]["template"]["spec"]["volumes"] if manifest["kind"] == "Job" else []
        used |= {
            volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume
        }
    assert used == claims
