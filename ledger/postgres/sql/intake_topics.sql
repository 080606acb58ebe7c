-- Names the topic ids that records were taken from.
SELECT DISTINCT topic_id
FROM intake
