"""One-time codes and plain notices are recognised; what gives somebody to reach, or asks for something, is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Flag
from worker.model.normalise import normalise
from worker.model.notices import kind_of

CODES = {
    "en": "Your Brightlane verification code is 482913. Do not share it with anyone.",
    "en, code first": "G-771204 is your sign-in code.",
    "en, in two groups": "Security code: 482 913. It expires in 5 minutes",
    "en, without the word": "Use 903972 to log in to Fernpay. It lasts 10 minutes",
    "en, domain-bound": "Your code is 745195\n@shop.example #745195",
    "en, if it was not you": "Your code is 55120. If you did not request this, ignore this text.",
    "en, never asked for": "Bank of Elm: OTP 671822. We will never ask you for it.",
    "es": "Tu código de verificación es 482913. No lo compartas con nadie.",
    "fr": "Votre code de vérification : 482913. Ne le partagez jamais.",
    "de": "Ihr Bestätigungscode lautet 482913. Geben Sie ihn niemals weiter.",
    "pt": "Seu código de verificação: 482913. Não compartilhe com ninguém.",
    "tr": "Doğrulama kodunuz 482913. Kimseyle paylaşmayınız.",
    "id": "Kode verifikasi Anda 482913. Jangan berikan kepada siapa pun.",
    "sw": "Nambari yako ya uthibitisho ni 482913. Usimpe mtu yeyote.",
    "ar": "رمز التحقق الخاص بك هو 482913. لا تشاركه مع أحد",
    "hi": "आपका ओटीपी 482913 है। इसे किसी के साथ साझा न करें।",
    "hi, in Latin letters": "Aapka OTP 482913 hai. Kisi ko na batayein.",
}
NOTICES = {
    "en, delivery": "Your order 4471 was delivered at 14:05.",
    "en, balance": "Acct XX123 debited 5,000.00 on 12/03. Avail bal 18,204.55",
    "en, appointment": "Reminder: appointment with Dr Lee on Tue 4 March at 10:30, room 12.",
    "en, flight": "Flight BX204 is delayed. Departure 18:40, gate 22.",
    "es": "Recordatorio: su cita es el 12/03 a las 10:30.",
    "fr": "Rappel : rendez-vous le 12/03 à 10:30, salle 4.",
    "de": "Ihr Termin ist am 12.03. um 10:30 Uhr, Raum 4.",
    "tr": "Randevunuz 12/03 saat 10:30.",
    "id": "Pesanan 4471 sudah diterima pukul 14:05.",
}
NEITHER = {
    "a link": "Your code is 482913. Log in at https://brightlane.example/in",
    "a host without a scheme": "Your order 4471 was delivered. brightlane-info.com/p",
    "a host that ends in a digit": "Your order 4471 was delivered. hotel24.com",
    "a number to call": "Your code is 482913. Not you? 0808 157 0149",
    "an address": "Your order 4471 was delivered, ask@brightlane.example",
    "a USSD code": "Your acct was debited 500. Dial *911*81#",
    "a request to share": "Your code is 482913. Share it with our agent to confirm.",
    "a request to send": "I sent you a 6-digit code by mistake: 482913, can you send it to me?",
    "a request to forward": "Code 482913. Forward this message to your bank manager.",
    "a request to reply": "Your code is 482913. Reply YES to stop the payment.",
    "a request behind a warning": "Never share this code with strangers. Code 482913: tell it to our driver.",
    "an agent who needs it": "Your safety code is 956-050. Our agent needs it to close the case",
    "es, a request": "Te mandé un código 482913 por error, envíamelo",
    "fr, a request": "Ton code est 482913, renvoie moi le vite",
    "de, a request": "Der Code 482913 kam aus Versehen, bitte schick ihn mir",
    "pt, a request": "Seu código é 482913, me envie por favor",
    "tr, a request": "Kodunuz 482913, bana gönder",
    "ar, a request": "رمز 482913 وصلك بالغلط ارسله لي",
    "a claim on the reader": "Your order 4471 is held. Pay the customs fee by 18:00.",
    "a prize": "You have received 500 prize, order 4471",
    "a threat": "Your account 4471 will be suspended at 18:00",
    "a question": "Did your order 4471 arrive at 14:05?",
    "chat": "see you at 7, bring the charger",
    "no figure": "Your order was delivered.",
    "nothing": "",
}


def recognised(text: str) -> Flag | None:
    return kind_of(normalise(text))


@pytest.mark.parametrize("name", CODES)
def test_a_one_time_code_is_recognised(name: str) -> None:
    assert recognised(CODES[name]) is Flag.ONE_TIME_CODE


@pytest.mark.parametrize("name", NOTICES)
def test_a_plain_notice_is_recognised(name: str) -> None:
    assert recognised(NOTICES[name]) is Flag.NOTICE


@pytest.mark.parametrize("name", NEITHER)
def test_what_has_somebody_to_reach_or_asks_for_something_is_neither(name: str) -> None:
    assert recognised(NEITHER[name]) is None


@pytest.mark.parametrize("lead", ["Call 0808 157 0149. ", "http://b.example ", "Reply now. ", "send it to me "])
@pytest.mark.parametrize("name", CODES)
def test_a_code_with_a_demand_in_front_is_none(name: str, lead: str) -> None:
    assert recognised(lead + CODES[name]) is None


def test_a_long_text_is_not_read() -> None:
    assert recognised(CODES["en"] + " and so on" * 60) is None


@given(st.text(max_size=600))
def test_any_text_has_an_answer(text: str) -> None:
    assert kind_of(text) in {None, Flag.ONE_TIME_CODE, Flag.NOTICE}
