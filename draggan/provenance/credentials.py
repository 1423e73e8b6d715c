"""Content credentials (C2PA): a signed statement of how a file was made, which any change to the file breaks.

They need the extra ``provenance`` (`c2pa-python`, the Content Authenticity Initiative's library, and `cryptography`).
Without it files leave with their other marks and no credentials, and everything here says so.

*Who signs.* ``C2PA_CERT_CHAIN`` and ``C2PA_KEY`` name an operator's certificate chain and key (PEM files); else a chain
of this installation's own is made at first. Nobody else trusts that one: what it signs is "valid, but signed by someone
unknown" to every other program, and anybody can make one with the same name. ``C2PA_TSA_URL`` is a time-stamping
authority, which is asked for each file; where it does not answer, the file is signed without.

Sources: C2PA Technical Specification 2.2 (https://spec.c2pa.org), whose words the states and codes are.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import io
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dnnlib.private_files import private_file
from draggan.errors import ConfigError
from draggan.provenance.metadata import VOCABULARY, SourceType
from draggan.recipe import Recipe

__all__ = ["MISSING", "TYPES", "Credentials", "Ingredient", "Sealed", "read_credentials", "seal", "trust_anchors"]

log = logging.getLogger(__name__)

MISSING = "content credentials need two more packages: pip install c2pa-python cryptography"
# Files that can carry credentials, by what they begin with; of an MP4 the fifth byte on.
TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "mp4": "video/mp4",
    "avif": "image/avif",
    "heif": "image/heif",
    "tiff": "image/tiff",
    "jxl": "image/jxl",
}
_BEGIN = "-----BEGIN CERTIFICATE-----"
# The label of an assertion of our own.
_RECIPE = "io.github.draggan.recipe"
_MOST_RECIPE = 256_000  # characters
_YEARS = 10
# c2pa-kp-claimSigning; today's readers ask for emailProtection beside it.
_CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"
# Reading a file fetches nothing, whatever it names; pictures inside credentials, of uploads too, are left out.
_SAFE: Mapping[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}, "created_assertion_labels": ["c2pa.actions", _RECIPE]},
}


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A photograph that a picture was made from, as it came in: its own credentials, if it has any, are kept.

    Attributes:
        kind: of file: a key of `TYPES`.
        data: the file.
    """

    kind: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A file after signing.

    Attributes:
        data: the file; unchanged where it could not be signed.
        state: what became of it: "signed", "signed without time", "not installed", or "failed".
    """

    data: bytes
    state: Literal["signed", "signed without time", "not installed", "failed"]


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a file's credentials say, and what they are worth.

    Attributes:
        state: "trusted": unchanged since it was signed, by somebody whom this installation trusts.
            "unknown signer": unchanged since it was signed, by anybody. "changed": the file or its credentials were
            changed after signing, or the signature does not hold. "elsewhere": they lie at an address, which is not
            asked. "unreadable": something is there that cannot be read. "none". "not installed": nothing was looked at.
        signer: name in the certificate, as the signer has written it.
        tool: what says it has made the file.
        time: of signing, as a time-stamping authority has confirmed it; None: nobody has.
        source_types: last words of the digital source types of its actions.
        actions: what was done, such as "c2pa.created", the first one first.
        recipe: text of the recipe in it, if it is one of ours.
        head: of the record of exports when it was signed, likewise.
        ingredients: how many files it was made from, and how many of those have credentials of their own.
        codes: what the validation found wrong, in C2PA's words.
    """

    state: Literal["trusted", "unknown signer", "changed", "elsewhere", "unreadable", "none", "not installed"]
    signer: str | None = None
    tool: str | None = None
    time: str | None = None
    source_types: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    recipe: str | None = None
    head: str | None = None
    ingredients: tuple[int, int] = (0, 0)
    codes: tuple[str, ...] = ()


def seal(
    data: bytes,
    kind: str,
    *,
    folder: Path,
    source: SourceType = "trainedAlgorithmicMedia",
    recipe: Recipe | None = None,
    watermarked: bool = False,
    head: str | None = None,
    photo: Ingredient | None = None,
) -> Sealed:
    """A file with credentials, if it can have them.

    Args:
        kind: of file: a key of `TYPES`.
        folder: where this installation keeps its secrets.
        source: how its pixels came about.
        recipe: goes in with its hash; a long one without the latents that can be computed again.
        watermarked: whether an invisible mark is in it.
        head: of the record of exports.
        photo: what it was made from.

    Raises:
        ConfigError: the operator's certificate or key cannot be used.
    """
    c2pa = _library()
    if c2pa is None:
        return Sealed(data=data, state="not installed")
    agent = {"name": "DragGAN"}
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "digitalSourceType": VOCABULARY + source,
        "softwareAgent": agent,
    }
    if photo is not None:
        created["parameters"] = {"ingredientIds": ["photo"]}
    actions = [created]
    if recipe is not None and recipe.edits:
        how = {"description": "points of the picture were dragged in the latent space of its generator"}
        actions.append({"action": "c2pa.edited", "softwareAgent": agent, "parameters": how})
    if watermarked:
        actions.append({"action": "c2pa.watermarked.unbound", "softwareAgent": agent})
    assertions: list[dict[str, Any]] = [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]
    said = _own_assertion(recipe, head, of_a_photo=photo is not None or (recipe is not None and recipe.is_of_photo))
    if said:
        assertions.append({"label": _RECIPE, "data": said})
    manifest = {"claim_generator_info": [agent], "title": f"picture.{kind}", "assertions": assertions}
    identity = _identity(folder)
    stamp = os.environ.get("C2PA_TSA_URL", "").strip() or None
    for authority in [stamp, None] if stamp else [None]:
        try:
            builder = c2pa.Builder(manifest, context=c2pa.Context.from_dict(_SAFE))
            if photo is not None:
                ingredient = {"title": "photograph", "relationship": "inputTo", "label": "photo"}
                builder.add_ingredient(ingredient, TYPES[photo.kind], io.BytesIO(photo.data))
            chain, key = identity
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(c2pa, key), chain, key, authority))
            signed = io.BytesIO()
            builder.sign(signer, TYPES[kind], io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            if authority:
                log.warning("the time-stamping authority did not answer; signed without: %s", error)
                continue
            log.warning("a file could not be signed: %s", error)
            return Sealed(data=data, state="failed")
        return Sealed(data=signed.getvalue(), state="signed" if authority or not stamp else "signed without time")
    return Sealed(data=data, state="failed")


def read_credentials(data: bytes, kind: str, anchors: str = "") -> Credentials:
    """What a file's credentials say. Nothing is fetched.

    Args:
        kind: of file: a key of `TYPES`.
        anchors: certificates of those who are trusted, PEM.
    """
    c2pa = _library()
    if c2pa is None:
        return Credentials(state="not installed")
    settings = {**_SAFE, **({"trust": {"user_anchors": anchors}} if anchors else {})}
    try:
        reader = c2pa.Reader.try_create(TYPES[kind], io.BytesIO(data), context=c2pa.Context.from_dict(settings))
        if reader is None:
            return Credentials(state="none")
        active = reader.get_active_manifest() or {}
        results = reader.get_validation_results() or {}
        valid = reader.get_validation_state()
    except c2pa.C2paError as error:
        text = str(error)
        if "emote" in text:
            return Credentials(state="elsewhere")
        # What says that it has none in another way.
        if "NotSupported" in text or "ManifestNotFound" in text:
            return Credentials(state="none")
        return Credentials(state="unreadable", codes=(text[:200],))
    codes = tuple(str(f.get("code")) for f in results.get("activeManifest", {}).get("failure", []))[:8]
    trusted = valid == "Trusted" and not codes
    state: Literal["trusted", "unknown signer", "changed"]
    state = "trusted" if trusted else "unknown signer" if valid in ("Valid", "Trusted") else "changed"
    return _told(active, state, codes)


def trust_anchors(folder: Path) -> str:
    """Certificates of those whom this installation trusts, PEM: itself, and those in the file that
    ``C2PA_TRUST_ANCHORS`` names.

    Raises:
        ConfigError: that file cannot be read.
    """
    own = folder / "credentials.pem"
    # The last one of the chain is our own root.
    texts = [_BEGIN + own.read_text().rsplit(_BEGIN, 1)[1]] if own.is_file() else []
    for name in ("C2PA_TRUST_ANCHORS", "C2PA_CERT_CHAIN"):
        if chosen := os.environ.get(name, "").strip():
            texts.append(_text_of(Path(chosen), name))
    # Files end as they like, and where one does without a line's end, the next would begin in its last line.
    return "".join(f"{text.strip()}\n" for text in texts)


# ---- saying --------------------------------------------------------------------------------------------------------


def _own_assertion(recipe: Recipe | None, head: str | None, *, of_a_photo: bool) -> dict[str, Any]:
    """The recipe as one text, whose hash can be checked: numbers in lists are shown wrongly by today's readers."""
    said: dict[str, Any] = {} if head is None else {"recordHead": head}
    # The latent code of a photograph draws its person again: it is not for everybody who gets the file.
    if recipe is None or of_a_photo:
        return said
    text = recipe.portable().to_json()
    if len(text) > _MOST_RECIPE:
        text = recipe.portable().to_json(results=False)
    if len(text) <= _MOST_RECIPE:
        said["json"] = text
    return said | {"digest": recipe.digest}


def _told(
    active: Mapping[str, Any], state: Literal["trusted", "unknown signer", "changed"], codes: tuple[str, ...]
) -> Credentials:
    """What a manifest says. Everything in it is somebody's text: taken as it comes, cut off, never followed."""
    actions: list[Mapping[str, Any]] = []
    own: Mapping[str, Any] = {}
    for assertion in _dicts(active.get("assertions"))[:50]:
        content = assertion.get("data")
        if not isinstance(content, Mapping):
            continue
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            actions += _dicts(content.get("actions"))[:50]
        elif str(assertion.get("label", "")).startswith(_RECIPE):
            own = content
    signature = active.get("signature_info")
    signature = signature if isinstance(signature, Mapping) else {}
    agents = _dicts(active.get("claim_generator_info"))
    tool = " ".join(str(agents[0].get(name) or "") for name in ("name", "version")) if agents else None
    sources = [str(a["digitalSourceType"]).rsplit("/", 1)[-1] for a in actions if a.get("digitalSourceType")]
    ingredients = _dicts(active.get("ingredients"))
    recipe = own.get("json")
    return Credentials(
        state=state,
        signer=_short(signature.get("issuer") or signature.get("common_name")),
        tool=_short(tool or active.get("claim_generator")),
        time=_short(signature.get("time")),
        source_types=tuple(source[:80] for source in dict.fromkeys(sources)),
        actions=tuple(str(a.get("action"))[:80] for a in actions[:20]),
        recipe=recipe if isinstance(recipe, str) else None,
        head=_short(own.get("recordHead")),
        ingredients=(len(ingredients), sum(1 for i in ingredients if i.get("active_manifest"))),
        codes=codes,
    )


def _dicts(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _short(text: object) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return None
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:200]).split())


# ---- who signs -----------------------------------------------------------------------------------------------------


def _library() -> Any:
    """`c2pa`, imported when it is first needed; None: it is not installed, or does not run on this machine."""
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError):
        return None


def _identity(folder: Path) -> tuple[bytes, bytes]:
    """Certificate chain (the signer's first) and key, PEM."""
    given = {name: os.environ.get(name, "").strip() for name in ("C2PA_CERT_CHAIN", "C2PA_KEY")}
    if all(given.values()):
        chain, key = (_text_of(Path(path), name).encode() for name, path in given.items())
        return chain, key
    if any(given.values()):
        missing = next(name for name, path in given.items() if not path)
        raise ConfigError(f"{missing} is not set; content credentials need a certificate chain and its key, or neither")
    return _own_identity(folder / "credentials.pem")


@functools.cache
def _own_identity(path: Path) -> tuple[bytes, bytes]:
    try:
        text = private_file(path, _made_identity)
    except OSError as error:
        log.warning("no certificate can be kept in %s (%s): this run signs with one of its own", path.parent, error)
        text = _made_identity()
    key, chain = text.split(_BEGIN.encode(), 1)
    return _BEGIN.encode() + chain, key


def _text_of(path: Path, name: str) -> str:
    try:
        return path.expanduser().read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} names {path.name}, which cannot be read ({error}); give a PEM file") from error


def _algorithm(c2pa: Any, key: bytes) -> Any:
    """Of signatures with a key: what C2PA allows for it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("C2PA_KEY is not a key that can be used; give an unencrypted PKCS#8 PEM file") from error
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return getattr(c2pa.C2paSigningAlg, {256: "ES256", 384: "ES384", 521: "ES512"}.get(private.key_size, "ES256"))
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return c2pa.C2paSigningAlg.ED25519
    if isinstance(private, rsa.RSAPrivateKey):
        return c2pa.C2paSigningAlg.PS256
    raise ConfigError("C2PA_KEY is of a kind that content credentials do not have; give an ECDSA P-256 key")


def _made_identity() -> bytes:
    """A key, its certificate, and that of a root of our own that has signed it and whose key nobody keeps."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
    end = begin + datetime.timedelta(days=365 * _YEARS)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def name(common: str) -> x509.Name:
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A DragGAN installation (self-issued)")
        return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        nothing = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        )
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            key_cert_sign=signs_certificates,
            encipher_only=False,
            decipher_only=False,
            **nothing,
        )

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, last: Callable[[Any], Any]) -> Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name("DragGAN root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
        )
        return last(builder).sign(root_key, hashes.SHA256())

    root = certificate(
        name("DragGAN root"),
        root_key.public_key(),
        lambda b: b.add_extension(x509.BasicConstraints(True, 0), True).add_extension(
            usage(signs_certificates=True), True
        ),
    )
    purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ObjectIdentifier(_CLAIM_SIGNING)]
    leaf = certificate(
        name("DragGAN signer"),
        key.public_key(),
        lambda b: (
            b.add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(usage(signs_certificates=False), True)
            .add_extension(x509.ExtendedKeyUsage(purposes), False)
        ),
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, root))
