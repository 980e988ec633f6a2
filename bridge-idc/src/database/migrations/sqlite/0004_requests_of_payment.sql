-- Bridge's ledger, version 4: under which key a payment or a refund was asked for. The audit log names it when what was in
-- doubt is concluded, with nobody waiting.

CREATE INDEX payment_requests_of_payment ON payment_requests (payment_id);
