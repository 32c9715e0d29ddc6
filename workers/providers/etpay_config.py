"""The settings of an ETpay account: where it is, its keys, all that ETpay has not published, and
what these ask of a row.

ETpay gives the paths, field names, status words and error codes of its payout calls at onboarding
only. The defaults here are an assumed contract, never to be taken for ETpay's real one: going live
means setting what ETpay hands over, not changing code.

Source: "ETpay payouts (Chile)", read 2026-11-21; the sections are named beside each setting.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from workers.providers.port import Fact, FieldRule, Order, Service
from workers.record.money import Currency, Money
from workers.settings import BaseUrl, Model, Secret

CLP = Currency.of("CLP")
PROVIDER = "ETpay"
SERVICE = "bank_transfer"

# What the adapter relies on. Source: "ETpay payouts (Chile)", the section beside each.
FACTS = (
    Fact("a login gives a token and its end in milliseconds", "documented", "3", ("login_path",)),
    Fact("one call creates and pays; its answer says whether it was taken", "documented", "4"),
    Fact("a payout's status can be asked for by its id", "documented", "5", ("status_path",)),
    Fact("statuses come by webhook first; polls are slow", "documented", "5", ("poll_first_s",)),
    Fact("payouts between two dates can be listed", "documented", "6", ("list_path",)),
    Fact("the balance can be asked for", "documented", "7", ("balance_path",)),
    Fact("each payout's final state is told by a webhook of its own", "documented", "8"),
    Fact("amounts are whole pesos", "seen", "4", ("amount_max",)),
    Fact("where no currency is told it is the peso", "assumed", "4", ("field_map",)),
    Fact(
        "no call tells what can be paid and with which fields",
        "assumed",
        "4",
        ("bank_codes", "account_types", "required_fields"),
    ),
    Fact("a payout is found by our reference id", "assumed", "5", ("status_by_order_path",)),
    Fact("no payout waits for our endpoint to approve it", "assumed", "8", ("callback_url",)),
    Fact("bank codes and their names", "documented", "4", ("bank_codes", "bank_code_style")),
    Fact(
        "the paths of the payout calls",
        "assumed",
        "4 to 7",
        ("create_path", "status_path", "status_by_order_path", "list_path", "balance_path"),
    ),
    Fact("the fields of requests and answers", "assumed", "4 to 8", ("field_map",)),
    Fact("the status words", "assumed", "5", ("status_map",)),
    Fact("the token goes into Authorization as it is", "assumed", "3", ("auth_scheme",)),
    Fact(
        "how long a token lives where its end is not told",
        "assumed",
        "3",
        ("token_ttl_s", "token_refresh_margin_s"),
    ),
    Fact("a refused login is the settings' fault", "assumed", "3", ("login_fault_statuses",)),
    Fact(
        "characters and length of a reference id",
        "assumed",
        "4",
        ("reference_id_chars_max", "reference_id_char"),
    ),
    Fact(
        "a description has 30 characters and no comma",
        "assumed",
        "4",
        ("description_chars_max", "description_forbids"),
    ),
    Fact("no payout is above 100,000,000 pesos", "assumed", "4", ("amount_max",)),
    Fact("the words for kinds of account", "assumed", "4", ("account_types",)),
    Fact("an account number is up to 20 digits", "assumed", "4", ("account_number_pattern",)),
    Fact("every field but the email is needed", "assumed", "4", ("required_fields",)),
    Fact("a repeated create pays twice", "assumed", "9", ("create_is_idempotent",)),
    Fact("which statuses say that a create was taken", "assumed", "9", ("accepted_statuses",)),
    Fact("which statuses say that nothing was stored", "assumed", "9", ("not_created_statuses",)),
    Fact("codes and words of errors", "assumed", "9", ("error_map", "field_map")),
    Fact("words that blame the balance", "assumed", "9", ("low_balance_words",)),
    Fact("words that blame the reference id", "assumed", "9", ("duplicate_words",)),
    Fact("a refusal with an unknown code may have stored the payout", "assumed", "9",
         ("trust_4xx",)),
    Fact("days of the date query are days in Chile", "assumed", "6", ("range_timezone",)),
    Fact("how the date query is paged", "assumed", "6",
         ("list_path", "list_limit", "list_pages_max")),
    Fact("how far back a look-up reads", "assumed", "9", ("lookup_days", "lookup_pages_max")),
    Fact('"not found" is proof after an hour', "assumed", "9", ("lookup_grace_s",)),
    Fact("nobody knows how a webhook is signed", "assumed", "8",
         ("webhook_auth", "webhook_secret")),
    Fact("the webhook's address is told with each payout", "assumed", "8", ("field_map",)),
    Fact("ETpay bears 2 calls a second, 4 at a time", "assumed", "9",
         ("rate_per_s", "in_flight_max")),
)  # fmt: skip

Count = Annotated[int, Field(ge=1)]
# An empty key would sign and open everything.
Key = Annotated[Secret, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Words = tuple[Text, ...]
Statuses = tuple[Annotated[int, Field(ge=200, le=599)], ...]
# The way to a value in a JSON object: `beneficiary.rut`. Empty, where allowed: there is none.
Dotted = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
MaybeDotted = Annotated[str, Field(pattern=r"^([^.\s]+(\.[^.\s]+)*)?$")]

PLACEHOLDER = re.compile(r"\{(\w*)\}", re.ASCII)
# With the webhook's address as the only proof, it must not be guessed.
PATH_SECRET_CHARS_MIN = 16


def _template(*needed: str, also: tuple[str, ...] = (), optional: bool = False) -> AfterValidator:
    """A path, query included, with placeholders such as `{payout_id}`."""

    def check(path: str) -> str:
        if optional and not path:
            return path
        if re.fullmatch(r"/[!-~]*", path) is None or "#" in path:
            raise ValueError("expected a path such as /v1/payouts, without blanks or #")
        found = PLACEHOLDER.findall(path)
        if missing := [name for name in needed if name not in found]:
            raise ValueError(f"expected {{{missing[0]}}} in it")
        known = {*needed, *also, "merchant_code"}
        if strange := [name for name in found if name not in known]:
            raise ValueError(f"{{{strange[0]}}} is no placeholder here; those are {sorted(known)}")
        return path

    return AfterValidator(check)


class _Sent(Model):
    """Fields of a request: none may stand in another's place."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        paths = sorted(path for path in self.model_dump().values() if path)
        for path, other in itertools.permutations(paths, 2):
            if path == other or other.startswith(f"{path}."):
                raise ValueError(f"{path!r} and {other!r} take the same place")
        return self


class LoginFields(_Sent):
    """Documented, section 3."""

    username: Dotted = "username"
    password: Dotted = "password"  # noqa: S105 - the name of a field
    merchant_code: Dotted = "merchant.code"
    merchant_api_token: Dotted = "merchant.api_token"  # noqa: S105 - the name of a field


class RequestFields(_Sent):
    """Where a create's values go; section 4. Empty: not sent."""

    merchant_code: MaybeDotted = "merchant.code"
    merchant_api_token: MaybeDotted = ""
    reference_id: Dotted = "merchant_order_id"
    amount: Dotted = "amount"
    currency: MaybeDotted = "currency"
    description: MaybeDotted = "description"
    name: Dotted = "beneficiary.name"
    rut: Dotted = "beneficiary.rut"
    email: MaybeDotted = "beneficiary.email"
    bank_code: Dotted = "account.bank_code"
    account_type: Dotted = "account.type"
    account_number: Dotted = "account.number"
    callback_url: MaybeDotted = "webhook_url"


class ResponseFields(Model):
    """Where an answer has its values; sections 3 and 5 to 9."""

    # Documented.
    token: Dotted = "auth.Authorization"  # noqa: S105 - the name of a field
    token_ends: Dotted = "auth.tokenExp"  # noqa: S105 - the name of a field
    # The object of one payout, and the list of several; empty: the document itself.
    payout: MaybeDotted = "payout"
    payouts: MaybeDotted = "payouts"
    pages: MaybeDotted = "pages"
    # Within a payout.
    payout_id: Dotted = "payout_id"
    reference_id: Dotted = "merchant_order_id"
    status: Dotted = "status"
    amount: Dotted = "amount"
    currency: MaybeDotted = "currency"
    rut: MaybeDotted = "beneficiary.rut"
    bank_code: MaybeDotted = "account.bank_code"
    account_number: MaybeDotted = "account.number"
    error_code: MaybeDotted = "error_code"
    error_message: MaybeDotted = "error_message"
    created_at: MaybeDotted = "created_at"
    # Within other answers; of several the first that is there.
    balance: Dotted = "balance.available"
    balance_currency: MaybeDotted = "balance.currency"
    error_codes: tuple[Dotted, ...] = ("error.code", "error_code", "code")
    error_messages: tuple[Dotted, ...] = ("error.message", "message", "msg")
    jwt: Dotted = "jwt"


class FieldMap(Model):
    """Every field's place, as dotted paths."""

    login: LoginFields = LoginFields()
    request: RequestFields = RequestFields()
    response: ResponseFields = ResponseFields()


Form = Literal["in_flight", "paid", "failed", "returned"]
ErrorClass = Literal["validation", "low_balance", "duplicate", "account_fault", "not_sent"]


class KnownError(Model):
    """What an error code of ETpay means, and what to tell people beside its own words."""

    meaning: ErrorClass = Field(alias="class")
    text: str = ""


def _any_case(table: Mapping[str, Any]) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for key, value in table.items():
        if folded.setdefault(key.casefold(), value) != value:
            raise ValueError(f"{key!r} stands there in another case with another meaning")
    return folded


def _on_top(table: Mapping[str, Form]) -> dict[str, Form]:
    """The table of statuses with an account's own words."""
    return {**STATUS_MAP, **_any_case(table)}


# Section 5. Not published: an assumption.
STATUS_MAP: Mapping[str, Form] = {
    "created": "in_flight", "pending": "in_flight", "processing": "in_flight",
    "in_progress": "in_flight", "approved": "in_flight",
    "completed": "paid", "paid": "paid", "success": "paid", "successful": "paid",
    "rejected": "failed", "failed": "failed", "error": "failed", "cancelled": "failed",
    "canceled": "failed",
    "returned": "returned", "reversed": "returned", "refunded": "returned",
}  # fmt: skip
# The one code in the page's assumed error body; section 9. The list is not published.
ERROR_MAP = {"PO-INVALID-ACCOUNT": KnownError.model_validate({"class": "validation"})}
# Chile's three-digit codes, and ETpay's own name where its SDK has one; section 4.
BANK_CODES: Mapping[str, str] = {
    "001": "CL_BCH",  # Banco de Chile
    "009": "",  # Internacional
    "012": "CL_ESTADO",  # BancoEstado
    "014": "CL_SCOTIABANK",
    "016": "CL_BCI",
    "028": "",  # BICE
    "031": "",  # HSBC
    "037": "CL_SANTANDER",
    "039": "CL_ITAU",
    "049": "",  # Security
    "051": "CL_FALABELLA",
    "053": "",  # Ripley
    "055": "",  # Consorcio
    "729": "",  # Prepago Los Héroes
    "730": "",  # Tenpo
}
ACCOUNT_TYPES = ("cuenta_corriente", "cuenta_vista", "cuenta_ahorro", "cuenta_rut")
FieldName = Literal["name", "rut", "email", "bank_code", "account_type", "account_number"]


class ETpayConfig(Model):
    """An account's own keys. Where no section's comment says "documented", it is inferred.

    Source: "ETpay payouts (Chile)"; the section stands at each key.
    """

    # Documented: given at onboarding, without /v1; sections 2 and 11.
    base_url: BaseUrl
    merchant_code: Annotated[str, Field(pattern=r"^[!-~]+$")]
    merchant_api_token: Key
    username: Text
    password: Key
    # Where the provider calls us; None: where it was told to at onboarding.
    callback_url: BaseUrl | None = None

    # Section 3; documented. The others: sections 4 to 7, "" for what ETpay does not offer.
    login_path: Annotated[str, _template()] = "/v1/auth/login"
    create_path: Annotated[str, _template()] = "/v1/payouts"
    status_path: Annotated[str, _template("payout_id")] = "/v1/payouts/{payout_id}"
    status_by_order_path: Annotated[str, _template("merchant_order_id", optional=True)] = (
        "/v1/payouts?merchant_order_id={merchant_order_id}"
    )
    list_path: Annotated[
        str, _template("date_from", "date_to", also=("page", "limit"), optional=True)
    ] = "/v1/payouts?date_from={date_from}&date_to={date_to}&page={page}&limit={limit}"
    balance_path: Annotated[str, _template(optional=True)] = "/v1/balance"
    field_map: FieldMap = FieldMap()

    # Section 3.
    auth_scheme: Literal["raw", "bearer"] = "raw"
    token_refresh_margin_s: Annotated[int, Field(ge=0)] = 120
    token_ttl_s: Count = 3600
    # A login answered so would be answered so again: wrong keys, or wrong settings.
    login_fault_statuses: Statuses = (400, 401, 403, 404, 405)

    # Sections 4 and 5.
    # On top of the table above: an entry adds a word, or gives one another meaning.
    status_map: Annotated[Mapping[str, Form], AfterValidator(_on_top)] = STATUS_MAP
    reference_id_chars_max: Count = 64
    reference_id_char: Text = "[A-Za-z0-9-]"
    bank_code_style: Literal["cmf3", "etpay_enum"] = "cmf3"
    # The file's code to ETpay's own name of the bank; "" where it has none.
    bank_codes: Mapping[Text, str] = BANK_CODES
    # The file's word to the one that is sent.
    account_types: Mapping[Text, Text] = dict(zip(ACCOUNT_TYPES, ACCOUNT_TYPES, strict=True))
    account_number_pattern: Text = "[0-9]{1,20}"
    required_fields: tuple[FieldName, ...] = (
        "name", "rut", "bank_code", "account_type", "account_number"
    )  # fmt: skip
    # In whole pesos.
    amount_max: Count = 100_000_000
    description_chars_max: Annotated[int, Field(ge=0)] = 30
    # Characters that it must not have.
    description_forbids: str = ","

    # Section 6: days of the date query, and how it is read.
    range_timezone: str = "America/Santiago"
    list_limit: Count = 100
    list_pages_max: Count = 5000

    # Section 8.
    webhook_auth: Literal["confirm_by_status", "jwt_hs256", "shared_secret_path"] = (
        "confirm_by_status"
    )
    webhook_secret: Key | None = None

    # Section 9.
    create_is_idempotent: bool = False
    accepted_statuses: tuple[Annotated[int, Field(ge=200, le=299)], ...] = (200, 201)
    # What is answered so was not stored; without its status here it may have been.
    not_created_statuses: tuple[Literal[401, 403, 404, 405, 429], ...] = (401, 403, 404, 405, 429)
    # A 400 or 422 with an unknown code is final too.
    trust_4xx: bool = False
    error_map: Annotated[Mapping[str, KnownError], AfterValidator(_any_case)] = _any_case(ERROR_MAP)
    # Compared in any case, with blanks for dashes and underlines.
    low_balance_words: Words = (
        "insufficient funds", "insufficient balance", "fondos insuficientes", "saldo insuficiente"
    )  # fmt: skip
    duplicate_words: Words = ("duplicate", "duplicad", "already exists", "ya existe")
    # How many days before the provider's own today a look-up reads: more than lookup_max_s, and
    # one more.
    lookup_days: Annotated[int, Field(ge=2, le=366)] = 3
    lookup_pages_max: Count = 20

    @property
    def banks(self) -> Mapping[str, str]:
        """The file's bank codes that can be paid to, and how each is sent."""
        if self.bank_code_style == "cmf3":
            return {code: code for code in self.bank_codes}
        return {code: name for code, name in self.bank_codes.items() if name}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.base_url.endswith("/v1") and self.create_path.startswith("/v1/"):
            raise ValueError("base_url must be without /v1: the paths begin with it")
        try:
            ZoneInfo(self.range_timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"range_timezone {self.range_timezone!r} is not known on this machine; expected"
                " a name such as America/Santiago"
            ) from error
        for name in ("account_number_pattern", "reference_id_char"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ValueError(f"{name}: expected a regular expression") from error
        if not self.banks:
            raise ValueError("bank_codes: none has a name, which bank_code_style etpay_enum needs")
        secret = self.webhook_secret
        if self.webhook_auth != "confirm_by_status" and secret is None:
            raise ValueError(f"webhook_auth = {self.webhook_auth} needs webhook_secret beside it")
        short = secret is not None and len(secret.get_secret_value()) < PATH_SECRET_CHARS_MIN
        if self.webhook_auth == "shared_secret_path" and short:
            raise ValueError(
                f"webhook_secret: expected at least {PATH_SECRET_CHARS_MIN} characters, so that"
                " nobody guesses the webhook's address"
            )
        return self


# What a row must satisfy. Source: "ETpay payouts (Chile)", section 4.


def service(config: ETpayConfig) -> Service:
    """Transfers to bank accounts in Chile."""
    rules = (
        ("name", None, "name of the account's holder", "Camila Soto"),
        ("rut", "[1-9][0-9]{5,7}[0-9K]", "RUT without dots or dash", "111111111"),
        ("bank_code", _one_of(config.banks), "bank's code of three digits", "037"),
        ("account_type", _one_of(config.account_types), "kind of account", "cuenta_vista"),
        ("account_number", config.account_number_pattern, "account number", "12345678"),
        ("email", r"[^@\s]{1,64}@[^@\s]{1,190}", "email address", "camila@example.com"),
    )
    fields = tuple(
        FieldRule(
            name=name,
            required=name in config.required_fields,
            pattern=pattern,
            label=label,
            example=example,
        )
        for name, pattern, label, example in rules
    )
    return Service(
        code=SERVICE,
        currency=CLP,
        beneficiary_currency=CLP,
        amount_max=Money(config.amount_max, CLP),
        decimals=0,
        fields=fields,
    )


def _one_of(words: Mapping[str, str]) -> str:
    return "|".join(re.escape(word) for word in words)


def check_digit(body: str) -> str:
    """The check digit of a RUT's body: weights 2 to 7, over and over, from the right."""
    products = (int(digit) * (2 + place % 6) for place, digit in enumerate(reversed(body)))
    rest = 11 - sum(products) % 11
    return {11: "0", 10: "K"}.get(rest, str(rest))


def why_not(config: ETpayConfig, order: Order) -> Iterator[tuple[str, str]]:
    """What of an order ETpay would not take beside the service's rules: columns, and what was
    expected there. The design's rulings make these checks faults of the row.
    """
    fields = order.fields
    rut = str(fields.get("rut", ""))
    body, digit = rut[:-1], rut[-1:]
    if body.isascii() and body.isdigit() and check_digit(body) != digit:
        yield "fields.rut", "a RUT whose check digit is right"
    kind = (fields.get("bank_code"), fields.get("account_type"))
    if kind == ("012", "cuenta_rut") and rut and fields.get("account_number") != body:
        expected = "the RUT without its check digit, as BancoEstado's CuentaRUT has it"
        yield "fields.account_number", expected
    most, length = config.description_chars_max, len(order.description)
    if length > most:
        yield "description", f"at most {most} characters, found {length}"
    if forbidden := [c for c in config.description_forbids if c in order.description]:
        yield "description", f"a text without {' '.join(forbidden)}"
    for family, given in (("customer", order.customer), ("context", order.context)):
        if given:
            yield _first_column(family, given), f"no value: {PROVIDER} takes no {family} data"


def _first_column(column: str, value: Any) -> str:
    """The first column that spells the object: `customer.address.city`."""
    while isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        column += f".{key}"
    return column
