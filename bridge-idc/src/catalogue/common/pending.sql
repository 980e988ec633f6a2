-- Keys whose last change is committed and has no number yet.
SELECT DISTINCT kind, brand, code FROM catalogue_pending
