SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit') <> 'off'
