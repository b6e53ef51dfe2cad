auditDay("2023-11-05",[
["00:00:00","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000011",1,"midnight begins this day of 25 hours"],
["01:30:00","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000012",1,"the first half past one"],
["01:30:00","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000013",1,"the second half past one"],
["23:59:59","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000014",1,"the last microsecond"],
]);
