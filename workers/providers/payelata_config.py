"""The settings of a Payelata account: where it is, its keys, and every fact that is only inferred.

Source: Payelata API facts; the sections are named beside each setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.providers.port import Fact
from workers.settings import BaseUrl, Model, Secret

# What the adapter relies on. Source: Payelata API facts, the section beside each.
FACTS = (
    Fact("create stores, a second call releases", "documented", "4.4, 4.5"),
    Fact("a reference id that is taken is refused with 409", "documented", "6"),
    Fact("payouts are found by our reference id", "documented", "4.6", ("find_parameter",)),
    Fact("statuses and resolutions", "documented", "5"),
    Fact("balances, services and field rules can be asked for", "documented", "4.1 to 4.3"),
    Fact("callbacks are signed with the signing key", "documented", "7"),
    Fact(
        "characters and length of a reference id",
        "assumed",
        "4.6",
        ("reference_id_chars_max", "reference_id_char"),
    ),
    Fact("the list is paged by a cursor", "assumed", "4.7", ("cursor_parameter",)),
    Fact("fee rates are in percent", "assumed", "4.3", ("fee_rate_unit",)),
    Fact("a service's limits are in its own currency", "assumed", "4.2", ("limits_currency",)),
    Fact("credit can be paid out", "assumed", "4.1", ("count_overdraft",)),
    Fact("a 429 stored nothing", "assumed", "6", ("rate_limited_is_not_created",)),
    Fact("words that blame the balance", "assumed", "12", ("low_balance_words",)),
    Fact("words that blame the reference id", "assumed", "6", ("duplicate_words",)),
    Fact('"not found" is proof after ten minutes', "assumed", "4.6", ("lookup_grace_s",)),
)

Count = Annotated[int, Field(ge=1)]
# An empty key would sign and open everything.
Key = Annotated[Secret, Field(min_length=1)]


class PayelataConfig(Model):
    """An account's own keys. "Inferred" marks what no page of the provider says.

    Source: Payelata API facts; the section stands at each key.
    """

    # Includes `/api` where the host has it; section 1.
    base_url: BaseUrl
    # Without `/public-api`; only the field rules are asked there. Section 1.
    public_base_url: BaseUrl | None = None
    # A colon would end the user name of HTTP Basic.
    account_id: Annotated[str, Field(pattern=r"^[!-9;-~]+$")]
    api_key: Key
    # Without it the services' field rules cannot be read, and the provider alone judges fields.
    public_key: Key | None = None
    # Without it no webhook can be verified: all are dropped, and polling does the work.
    signing_key: Key | None = None
    # No default: a forgotten key must neither pay for real nor only seem to pay.
    test_mode: bool
    # Where the provider calls us; None: where the account's own settings say.
    callback_url: BaseUrl | None = None
    # Have the provider release at once what is created; section 4.4.
    auto_process: bool = False

    # Inferred, section 4.6.
    reference_id_chars_max: Count = 64
    reference_id_char: str = "[A-Za-z0-9._-]"
    # Decimals that a service takes, {"payment_card_usd": 0}. Section 3: whole numbers for some.
    service_decimals: Mapping[str, Annotated[int, Field(ge=0, le=4)]] = Field(default_factory=dict)
    # Inferred: 2.5 is 2.5 percent; section 4.3 shows zeros only.
    fee_rate_unit: Literal["percent", "fraction"] = "percent"
    # Inferred, section 4.2: what currency a service's limits are in.
    limits_currency: Literal["service", "account"] = "service"
    # Inferred, section 4.1: credit can be paid out too.
    count_overdraft: bool = True
    # Inferred, section 4.6: the query's name in full.
    find_parameter: str = "filter[reference_id]"
    # Inferred, section 4.7: asked for where a full page names no next one.
    cursor_parameter: str = "page[after]"
    # Pages of a list, section 4.7: 20 in the sample; used where the answer does not tell its size.
    list_page_size: Count = 20
    list_pages_max: Count = 5000
    # How far a list that ignored our filter is read before the look-up gives up.
    find_pages_max: Count = 5
    # Section 4.3: the sample's size.
    services_page_size: Count = 20
    services_pages_max: Count = 100
    # Inferred: asked for where no limit of a service tells a better amount, in major units.
    prerequest_amount: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100
    # Inferred, section 4.5.
    process_body: Literal["{}", ""] = "{}"
    # Inferred, section 6: a create's 200 or 202 that holds our payout counts as a 201.
    accepts_200_and_202: bool = True
    # Inferred, section 4.4: an invoice repeats what was sent; repeated otherwise, it is held.
    compares_echo: bool = True
    # Inferred, section 6: no create that is answered 429 is stored. False: it may be.
    rate_limited_is_not_created: bool = True
    # Inferred, section 12: words in a 422 that blame the balance, compared in lower case.
    low_balance_words: tuple[str, ...] = ("insufficient",)
    # Inferred, section 6: words in a 422 that are about the reference id.
    duplicate_words: tuple[str, ...] = ("reference_id", "reference id", "already exists")

    @model_validator(mode="after")
    def _of_one_mode(self) -> Self:
        # Keys tell their mode; one of the other mode is a mix-up. Source: section 2.
        other = ("pk_live_", "sk_live_") if self.test_mode else ("pk_test_", "sk_test_")
        for name in ("public_key", "signing_key"):
            key: Secret | None = getattr(self, name)
            if key is not None and key.get_secret_value().startswith(other):
                mode = str(self.test_mode).lower()
                raise ValueError(f"{name} is of the other mode than test_mode = {mode}")
        if self.public_key is not None and self.public_base_url is None:
            raise ValueError("public_key needs public_base_url beside it")
        return self
