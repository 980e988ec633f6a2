-- Keys with a committed change that has no number yet.
SELECT DISTINCT kind, brand, code FROM catalogue_pending
